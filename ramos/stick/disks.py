"""Which disks there are, what is on them, and which of them may be overwritten.

Owns: the reading of `lsblk --json` and every reason to refuse a disk. Refuses: touching a device
(text in, dataclasses out). Invariant: a disk is writable only when no reason against it was found;
what is not understood counts as a reason.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ramos.errors import RamosError, RefusedError, UsageError
from ramos.sizes import format_size

LSBLK_COLUMNS = (
    "NAME,PATH,TYPE,SIZE,RM,RO,TRAN,VENDOR,MODEL,SERIAL,UUID,FSTYPE,LABEL,MOUNTPOINTS,MAJ:MIN"
)
LSBLK = ("lsblk", "--json", "--bytes", "--output", LSBLK_COLUMNS)
WHOLE_TYPES = ("disk", "loop")
MEMBER_NAMES = {
    "LVM2_member": "part of an LVM volume group",
    "linux_raid_member": "part of a RAID",
    "zfs_member": "part of a ZFS pool",
    "bcache": "part of a bcache",
}


@dataclass(frozen=True)
class Mounted:
    """The way from a mount point down to its disk."""

    device: str
    partition: str
    disk: str
    disk_bytes: int

    @property
    def encrypted(self) -> bool:
        """Whether something (LUKS) lies between the file system and the partition."""
        return self.device != self.partition


@dataclass(frozen=True)
class Disk:
    """One whole disk, as the kernel sees it now."""

    name: str
    path: str
    device_number: str
    size_bytes: int
    removable: bool
    read_only: bool
    transport: str
    vendor: str
    model: str
    serial: str
    uuids: tuple[str, ...]
    contents: tuple[str, ...]
    uses: tuple[str, ...]

    @property
    def title(self) -> str:
        """Vendor, model and serial in one line."""
        words = " ".join(word for word in (self.vendor, self.model) if word) or "unknown model"
        return f"{words} (serial {self.serial})" if self.serial else words


def parse_disks(text: str) -> tuple[Disk, ...]:
    """All whole disks in the output of LSBLK."""
    try:
        nodes = json.loads(text)["blockdevices"]
    except (ValueError, KeyError, TypeError):
        raise RamosError("cannot list disks", "lsblk", "its output is not understood") from None
    return tuple(_read_disk(node) for node in nodes if node.get("type") in WHOLE_TYPES)


def find_disk(disks: Iterable[Disk], path: str, nodes_text: str) -> Disk:
    """The disk with this path; a partition or anything else is refused by name."""
    for disk in disks:
        if path == disk.path:
            return disk
    for node, owner in _walk(json.loads(nodes_text)["blockdevices"], ""):
        if node.get("path") == path and owner:
            raise UsageError(
                "cannot use",
                path,
                f"it is a {node.get('type')} of {owner}, not a whole disk",
                hint=f"Name the whole disk: {owner}.",
            )
    raise UsageError(
        "cannot use",
        path,
        "it is not a disk of this machine",
        hint="`ramos image disks` lists the disks that can be used.",
    )


def find_mounted(text: str, mount_point: str) -> Mounted:
    """The disk under a mount point."""

    def search(node: dict[str, Any], way: tuple[dict[str, Any], ...]) -> Mounted | None:
        way = (*way, node)
        if mount_point in (node.get("mountpoints") or []) and len(way) > 1:
            paths = [_text(step, "path") for step in way]
            return Mounted(paths[-1], paths[1], paths[0], int(way[0].get("size") or 0))
        found = (search(child, way) for child in node.get("children") or [])
        return next((mounted for mounted in found if mounted), None)

    for disk in json.loads(text)["blockdevices"]:
        if mounted := search(disk, ()):
            return mounted
    raise RefusedError(
        "cannot find the stick",
        mount_point,
        "no partition of a disk is mounted there",
        hint="This works on a system that was booted from a stick.",
    )


def list_refusals(
    disk: Disk, *, allow_fixed: bool, needed_bytes: int = 0, running_uuid: str = ""
) -> tuple[str, ...]:
    """Every reason not to write on this disk; none means that it may be offered."""
    reasons = list(disk.uses)
    if running_uuid and running_uuid in disk.uuids:
        reasons.insert(0, "it is the stick that this system runs from")
    if disk.read_only:
        reasons.append("it is write-protected")
    if disk.size_bytes == 0:
        reasons.append("it has no medium in it")
    elif disk.size_bytes < needed_bytes:
        reasons.append(
            f"it is too small: {format_size(disk.size_bytes)}, {format_size(needed_bytes)} needed"
        )
    if not disk.removable and not allow_fixed:
        reasons.append("it is a fixed disk (--allow-fixed overrides this)")
    return tuple(reasons)


def describe(disk: Disk) -> str:
    """One line for a list: path, size, what it is and what is on it."""
    contents = ", ".join(disk.contents) or "empty"
    return f"{disk.path}  {format_size(disk.size_bytes)}  {disk.title}  [{contents}]"


def _read_disk(node: dict[str, Any]) -> Disk:
    inside = [child for child, _ in _walk([node], "")]
    return Disk(
        name=_text(node, "name"),
        path=_text(node, "path"),
        device_number=_text(node, "maj:min"),
        size_bytes=int(node.get("size") or 0),
        removable=bool(node.get("rm")),
        read_only=bool(node.get("ro")),
        transport=_text(node, "tran"),
        vendor=_text(node, "vendor"),
        model=_text(node, "model"),
        serial=_text(node, "serial"),
        uuids=tuple(_text(child, "uuid") for child in inside if child.get("uuid")),
        contents=tuple(_describe_content(child) for child in inside if child.get("fstype")),
        uses=tuple(use for child in inside for use in _list_uses(child, node)),
    )


def _walk(nodes: Iterable[dict[str, Any]], owner: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Every node of the tree with the path of the whole disk it belongs to."""
    for node in nodes:
        yield node, owner
        yield from _walk(node.get("children") or [], owner or _text(node, "path"))


def _text(node: dict[str, Any], key: str) -> str:
    return str(node.get(key) or "").strip()


def _describe_content(node: dict[str, Any]) -> str:
    label = _text(node, "label")
    return f"{_text(node, 'fstype')} {label!r}" if label else _text(node, "fstype")


def _list_uses(node: dict[str, Any], disk: dict[str, Any]) -> Iterator[str]:
    """Why one node of a disk's tree keeps the disk busy."""
    path = _text(node, "path")
    for target in node.get("mountpoints") or []:
        if target == "[SWAP]":
            yield f"{path} is in use as swap"
        elif target:
            yield f"{path} is mounted at {target}"
    if node is not disk and node.get("type") != "part":
        yield f"{path} ({node.get('type')}) is open on it"
    member = MEMBER_NAMES.get(_text(node, "fstype"))
    if member:
        yield f"{path} is {member}"
