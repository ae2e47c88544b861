"""A write to an ESP refuses a copy of the stick that was booted."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ramos.boot import esp
from ramos.booted import Boot
from ramos.errors import RamosError
from ramos.stick import identity

NODE = Path("/dev/sdx1")


@pytest.mark.parametrize(
    ("sequence", "mounted", "difference", "reason"),
    [
        (5, True, "", ""),  # the very disk
        (6, True, "", ""),  # plugged in again: its persist proves it
        (6, True, "it has another end", "it has another end"),
        (6, False, "", "was unplugged"),
        (6, "/dev/sdy2", "", "persist is on another disk"),
    ],
)
def test_a_copy_of_the_stick_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    sequence: int,
    mounted: bool | str,
    difference: str,
    reason: str,
) -> None:
    source = mounted if isinstance(mounted, str) else "/dev/sdx2"
    mount = SimpleNamespace(source=source)
    monkeypatch.setattr(esp, "find_mount", lambda _: mount if mounted else None)
    monkeypatch.setattr(esp, "find_difference", lambda *_: difference)
    monkeypatch.setattr(identity, "name_disk", lambda node: Path(str(node)[:-1]))
    monkeypatch.setattr(identity, "read_sequence", lambda _: 5)
    boot = Boot(disk_sequence=sequence)
    if not reason:
        esp.refuse_copy(boot, NODE)
        return
    with pytest.raises(RamosError, match=reason):
        esp.refuse_copy(boot, NODE)


def test_who_booted_from_nowhere_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esp, "find_mount", lambda _: None)
    monkeypatch.setattr(identity, "name_disk", lambda _: "")
    with pytest.raises(RamosError, match="cannot find the ESP: persist: no FAT32 partition on"):
        esp.find_esp(Boot())
