"""A machine as a script: each place of the serial line, and how one ends the machine there."""

import shlex
from pathlib import Path

import pytest

from ramos.vm import script
from ramos.vm.qemu import VmHost, VmPlan

PLACES = {
    "": ("mon:stdio", "Ctrl-A X ends the machine"),
    "pty": ("pty", "Ctrl-C ends the machine"),
    "tcp:4000": ("tcp:127.0.0.1:4000,server=on,wait=off", "at 127.0.0.1:4000; Ctrl-C ends"),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_serial_line(place: str, tmp_path: Path) -> None:
    plan = VmPlan(tmp_path / "it's, a.img", firmware="bios", serial=place, window="gtk")
    text = script.render_script(plan, VmHost(tmp_path), ["tcg"], snapshot=False)
    words = shlex.split(text, comments=True)
    option, keys = PLACES[place]
    assert keys in text
    assert words[words.index("-serial") + 1] == option
    assert words[words.index("-display") + 1] == "gtk"
    assert words[words.index("-drive") + 1].endswith("it's,, a.img")
