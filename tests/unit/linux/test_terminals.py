"""Terminals: which one is behind a console, and what a program gets that has none."""

import os
from pathlib import Path

import pytest

from ramos.linux import terminals


@pytest.mark.parametrize(
    ("active", "terminal"), [("tty0 ttyS0", "/dev/ttyS0"), ("ttyS1 ttyS0 tty0", "/dev/tty3")]
)
def test_the_console_is_the_last_one_that_the_kernel_names(
    active: str, terminal: str, tmp_path: Path
) -> None:
    consoles = tmp_path / "console/active"
    for path, text in ((consoles, active), (tmp_path / "tty0/active", "tty3")):
        path.parent.mkdir()
        path.write_text(f"{text}\n")
    assert terminals.resolve_console(Path("/dev/console"), consoles) == Path(terminal)


def test_what_is_no_terminal_is_lent_as_it_is() -> None:
    reader, writer = os.pipe()
    with terminals.kept(reader), os.fdopen(writer, "wb") as lent:
        lent.write(b"text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
