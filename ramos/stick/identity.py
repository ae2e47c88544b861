"""Block devices, told apart by what does not change when they are plugged in again.

Owns: the identity of a stick's partition, and the way from a partition to its disk and back.
Refuses: writing. Invariants: two sticks with the same label are two sticks; a copy of a stick on
another device is another stick.
"""

import contextlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

SYS_BLOCK = Path("/sys/class/block")
SYS_NUMBERS = Path("/sys/dev/block")
HEAD_BYTES = 4096
LUKS_MAGIC = b"LUKS\xba\xbe"
EXT_MAGIC = b"\x53\xef"


@dataclass(frozen=True)
class Identity:
    """What a partition holds and on what device; an empty value is not known."""

    uuid: str
    kind: str
    size_bytes: int
    label: str = ""
    serial: str = ""
    model: str = ""


def read_head(head: bytes) -> tuple[str, str, str]:
    """The (kind, UUID, label) of a filesystem by its first 4 KiB; empty for anything unknown."""
    if head[:6] == LUKS_MAGIC:
        return "luks", _decode(head[0xA8:0xD0]).lower(), _decode(head[0x18:0x48])
    if len(head) >= 0x488 and head[0x438:0x43A] == EXT_MAGIC:
        return "ext4", str(uuid.UUID(bytes=head[0x468:0x478])), _decode(head[0x478:0x488])
    if head[82:90] == b"FAT32   " and head[510:512] == b"\x55\xaa":
        serial = int.from_bytes(head[67:71], "little")
        return "vfat", f"{serial >> 16:04X}-{serial & 0xFFFF:04X}", _decode(head[71:82]).rstrip()
    return "", "", ""


def _decode(field: bytes) -> str:
    return field.split(b"\0")[0].decode("ascii", "replace")


def read_identity(node: Path) -> Identity:
    """Who a partition is; an unreadable or unknown one has an empty UUID."""
    try:
        descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            kind, found, label = read_head(os.pread(descriptor, HEAD_BYTES, 0))
            size_bytes = os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)
    except OSError:
        kind, found, label, size_bytes = "", "", "", 0
    disk = name_disk(node)
    serial, model = _read_usb_words(SYS_BLOCK / disk) if disk else ("", "")
    return Identity(found, kind, size_bytes, label, serial, model)


def is_same(known: Identity, seen: Identity) -> bool:
    """Whether `seen` is the stick that we know."""
    if not seen.uuid or known.uuid != seen.uuid or known.size_bytes != seen.size_bytes:
        return False
    return not known.serial or not seen.serial or known.serial == seen.serial


def find_backing(node: Path) -> Path | None:
    """The partition (or disk) below a node: the node's own, or the one under a mapping."""
    try:
        status = node.stat()
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        here = (SYS_NUMBERS / number).resolve(strict=True)
        while below := sorted((here / "slaves").iterdir()) if (here / "slaves").is_dir() else []:
            here = below[0].resolve()
    except OSError:
        return None
    return Path("/dev", here.name)


def name_disk(node: Path) -> str:
    """The kernel's name of the whole disk below a partition or a mapping ("" if there is none)."""
    backing = find_backing(node)
    if backing is None:
        return ""
    here = (SYS_BLOCK / backing.name).resolve()
    return here.parent.name if (here / "partition").exists() else here.name


def read_sequence(disk: str) -> int:
    """The kernel's count of disks when this one appeared: no later one has the same; 0: unknown."""
    word = _read_word(SYS_BLOCK / disk / "diskseq") if disk else ""
    return int(word) if word.isascii() and word.isdigit() else 0


def list_partitions(disk: str) -> list[Path]:
    """The nodes of a disk's partitions, in order."""
    with contextlib.suppress(OSError):
        entries = [p for p in (SYS_BLOCK / disk).iterdir() if (p / "partition").exists()]
        entries.sort(key=lambda p: int((p / "partition").read_text()))
        return [Path("/dev", p.name) for p in entries]
    return []


def _read_usb_words(start: Path) -> tuple[str, str]:
    """The serial number and the model of a disk, from the nearest parent that has them."""
    with contextlib.suppress(OSError):
        here = start.resolve()
        model = _read_word(here / "device/model")
        while re.match(r"/sys/devices/.", str(here)):
            if serial := _read_word(here / "serial"):
                return serial, model
            here = here.parent
        return "", model
    return "", ""


def _read_word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
