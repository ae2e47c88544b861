"""The ESP is that of the stick that was booted, and of no copy of it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ramos.boot import esp
from ramos.booted import Boot
from ramos.errors import RamosError
from ramos.stick import identity, watch
from ramos.stick.identity import Identity

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


@pytest.mark.parametrize(
    ("mounted", "known", "plugged_in", "found"),
    [
        ("/dev/sda2", True, ["sda"], "/dev/sda1"),
        ("/dev/sdb2", True, ["sdb"], "/dev/sdb1"),  # back, and mounted
        (None, True, ["sdb"], "/dev/sdb1"),  # ejected, and back under another name
        (None, True, ["sda", "sdb"], "/dev/sdb1"),  # its name is another stick's now
        ("/dev/sda2", True, ["sdb"], "/dev/sdb1"),  # still mounted from where it was
        (None, False, ["sda"], "/dev/sda1"),  # nobody has looked yet
        (None, True, [], ""),
    ],
)
def test_it_is_found_on_the_stick_whatever_its_name(
    monkeypatch: pytest.MonkeyPatch,
    mounted: str | None,
    known: bool,
    plugged_in: list[str],
    found: str,
) -> None:
    """Of the disks that are plugged in the last one is ours; each has an ESP and a persist."""

    def list_partitions(disk: str) -> list[Path]:
        return [Path(f"/dev/{disk}{number}") for number in (1, 2)]

    def read_identity(node: Path) -> Identity:
        is_ours = node.name[:-1] == plugged_in[-1]
        return Identity("ABCD-0001" if is_ours else "ABCD-0002", "vfat", 1)

    def name_disk(node: Path) -> str:
        return node.name[:-1] if node.name[:-1] in plugged_in else ""

    mount = SimpleNamespace(source=mounted) if mounted else None
    monkeypatch.setattr(esp, "find_mount", lambda _: mount)
    monkeypatch.setattr(identity, "name_disk", name_disk)
    monkeypatch.setattr(identity, "list_partitions", list_partitions)
    monkeypatch.setattr(identity, "read_identity", read_identity)
    monkeypatch.setattr(watch, "remember_stick", lambda _: "ours" if known else None)
    ours = Path(f"/dev/{plugged_in[-1]}2") if plugged_in else None
    monkeypatch.setattr(watch, "find_returned", lambda _: ours)
    boot = Boot(persist="/dev/sda2", esp_uuid="abcd-0001")
    if found:
        assert esp.find_esp(boot) == Path(found)
        return
    with pytest.raises(RamosError, match="no FAT32 partition abcd-0001"):
        esp.find_esp(boot)
