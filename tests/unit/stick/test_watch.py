"""The stick as it leaves and returns."""

from dataclasses import replace
from pathlib import Path

import pytest

from ramos.stick import identity, watch

KNOWN = identity.Identity("0a1b2c3d-0e0f-4a4b-8c8d-00aa11bb22cc", "ext4", 1 << 30, "ramos-persist")


@pytest.mark.parametrize("same", [False, True])
def test_only_our_stick_has_returned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, same: bool
) -> None:
    for name in ("loop7", "sdz1"):
        (tmp_path / name).mkdir()
    seen = KNOWN if same else replace(KNOWN, uuid="another")
    monkeypatch.setattr(identity, "SYS_BLOCK", tmp_path)
    monkeypatch.setattr(identity, "read_identity", lambda _: seen)
    assert watch.find_returned(KNOWN) == (Path("/dev/sdz1") if same else None)


def test_swap_that_does_not_end_keeps_the_stick(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    watch._end_swap(tmp_path / "absent")
    with pytest.raises(NotADirectoryError):
        watch._end_swap(tmp_path / "file" / "swapfile")
