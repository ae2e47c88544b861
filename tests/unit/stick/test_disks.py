"""Which disks are offered and which are refused, from lsblk's own output."""

import json
from typing import Any

import pytest

from ramos.errors import RamosError, UsageError
from ramos.stick.disks import Disk, describe, find_disk, find_mounted, list_refusals, parse_disks


def node(name: str, kind: str = "disk", **more: Any) -> dict[str, Any]:
    base = {"name": name, "path": f"/dev/{name}", "type": kind, "size": 16 * 10**9, "rm": False}
    return {**base, "ro": False, "mountpoints": [None], "maj:min": "8:0", **more}


def stick(**more: Any) -> dict[str, Any]:
    named = {"vendor": "SanDisk ", "model": "Ultra", "serial": "4C53", "tran": "usb"}
    return node("sdb", **{**named, "rm": True, **more})


def listing(*nodes: dict[str, Any]) -> str:
    return json.dumps({"blockdevices": list(nodes)})


def only(*nodes: dict[str, Any]) -> Disk:
    (disk,) = parse_disks(listing(*nodes))
    return disk


def test_an_unused_stick_is_offered_with_all_that_tells_it_apart() -> None:
    part = node("sdb1", "part", fstype="vfat", label="HOLIDAY")
    disk = only(stick(children=[part]))
    assert not list_refusals(disk, allow_fixed=False)
    line = describe(disk)
    for word in ("/dev/sdb", "14.9 GiB", "SanDisk Ultra", "4C53", "vfat 'HOLIDAY'"):
        assert word in line


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (node("sda"), "fixed disk"),
        (stick(ro=True), "write-protected"),
        (stick(size=0), "no medium"),
        (stick(size=10**6), "too small: 976.6 KiB"),
        (stick(mountpoints=["/mnt"]), "/dev/sdb is mounted at /mnt"),
        (stick(children=[node("sdb1", "part", mountpoints=["/boot"])]), "sdb1 is mounted at /boot"),
        (stick(children=[node("sdb1", "part", mountpoints=["[SWAP]"])]), "in use as swap"),
        (stick(children=[node("sdb1", "part", fstype="LVM2_member")]), "LVM volume group"),
        (stick(children=[node("sdb1", "part", fstype="linux_raid_member")]), "RAID"),
        (
            stick(children=[node("sdb1", "part", children=[node("secret", "crypt")])]),
            "/dev/secret (crypt) is open",
        ),
        (stick(children=[node("sdb2", "part", uuid="AAAA-BBBB")]), "this system runs from"),
    ],
)
def test_a_disk_is_refused_by_name(disk: dict[str, Any], reason: str) -> None:
    found = list_refusals(
        only(disk), allow_fixed=False, needed_bytes=10**9, running_uuid="AAAA-BBBB"
    )
    assert reason in "; ".join(found)


def test_a_fixed_disk_needs_to_be_asked_for() -> None:
    assert not list_refusals(only(node("sda")), allow_fixed=True)


def test_a_partition_is_refused_and_its_disk_named() -> None:
    text = listing(stick(children=[node("sdb1", "part")]))
    with pytest.raises(UsageError, match="a part of /dev/sdb") as caught:
        find_disk(parse_disks(text), "/dev/sdb1", text)
    assert "/dev/sdb." in caught.value.hint
    assert find_disk(parse_disks(text), "/dev/sdb", text).name == "sdb"


def test_what_is_no_disk_is_refused() -> None:
    with pytest.raises(UsageError, match="not a disk of this machine"):
        find_disk((), "/dev/null", listing())
    with pytest.raises(RamosError, match="not understood"):
        parse_disks("nonsense")


def test_the_way_from_persist_to_its_disk() -> None:
    plain = node("sdb2", "part", mountpoints=["/persist"])
    found = find_mounted(listing(node("sda"), stick(children=[plain])), "/persist")
    assert (found.device, found.partition, found.disk) == ("/dev/sdb2", "/dev/sdb2", "/dev/sdb")
    assert not found.encrypted
    crypt = node("mapper/persist", "crypt", mountpoints=["/persist"])
    locked = stick(children=[node("sdb2", "part", children=[crypt])])
    found = find_mounted(listing(locked), "/persist")
    assert (found.device, found.partition) == ("/dev/mapper/persist", "/dev/sdb2")
    assert found.encrypted
    with pytest.raises(RamosError, match="no partition"):
        find_mounted(listing(stick()), "/persist")
