"""What several rooms stand on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import grubenv
from ramos.booted import Boot

GIVEN_UP = grubenv.BootEnv(good="6.1", gen_good=6, gen_tries=0)


@pytest.fixture
def esp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the mounted ESP; GRUB has given the newest generation up."""
    folder = tmp_path / "esp"
    file = folder / layout.GRUBENV
    file.parent.mkdir(parents=True)
    file.write_bytes(grubenv.render(GIVEN_UP))

    @contextlib.contextmanager
    def mount(_boot: Boot, *, writable: bool) -> Iterator[Path]:
        file.chmod(0o600)
        before = file.read_bytes()
        yield folder
        assert writable or file.read_bytes() == before, "this ESP is mounted read-only"

    monkeypatch.setattr("ramos.boot.esp.mount_esp", mount)
    return folder
