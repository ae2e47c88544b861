"""The stick we booted from: whether it is still there and usable.

Owns: the checks before anything is written. Refuses: repairing or
mounting. Invariant: `check_stick` passes only for a writable persist on the very device that the
system was started from, and for no copy of it.
"""

import contextlib
import os
import struct
import uuid
from pathlib import Path

from ramos.booted import Boot
from ramos.errors import RamosError
from ramos.layout import Places, generation_path
from ramos.linux.mounts import MountPoint, find_mount
from ramos.stick import identity
from ramos.store.generation import MAX_FILE_BYTES, read_end

NOTHING_LOST = "Nothing was written; what is not saved is still in RAM"
EXT4_UUID_OFFSET = 1024 + 0x68
SECTOR_BYTES = 512


def check_stick(places: Places, boot: Boot) -> MountPoint:
    """Refuse what must not be written to: no stick, another stick, a read-only one."""
    mount = check_presence(places)
    if boot.persist_uuid and (found := read_ext4_uuid(Path(mount.source))):
        if found != boot.persist_uuid.lower():
            raise _refuse(
                places,
                f"it is another stick: {found} instead of {boot.persist_uuid}",
                "Put the stick back in that this system was started from.",
            )
    elif boot.persist and not _same_device(boot.persist, places.persist):
        raise _refuse(places, f"it is not on {boot.persist}, where this system was started from")
    if reason := find_difference(boot, places.persist, Path(mount.source)):
        hint = "Put the stick back in that this system was started from."
        raise _refuse(places, reason, hint)
    return mount


def check_presence(places: Places) -> MountPoint:
    """Refuse what nobody could write to, as far as everybody sees it."""
    mount = find_mount(places.persist)
    if mount is None:
        raise _refuse(places, "it is not mounted", "Put the stick back in, or 'ramos reconnect'.")
    if not is_device_there(mount.device):
        raise _refuse(places, "the stick was pulled out", "Put the same stick back in.")
    if "ro" in mount.options or os.statvfs(places.persist).f_flag & os.ST_RDONLY:
        raise _refuse(
            places,
            "it is mounted read-only",
            "After an error the kernel does this by itself: see dmesg; 'mount -o remount,rw "
            f"{places.persist}' after a check of the stick.",
        )
    return mount


def find_difference(boot: Boot, persist: Path, node: Path) -> str:
    """Why a stick with all the names of the booted one is a copy of it nevertheless, or "".

    A copy has gone its own way when the generation that init read is another one there, or is
    absent. It may be lost, too; so that counts only for a disk that was plugged in since.
    """
    backing = identity.find_backing(node) if boot.luks_uuid else None
    if backing is not None:
        seen = identity.read_identity(backing)
        if seen.kind == "luks" and seen.uuid != boot.luks_uuid.lower():
            return f"it is another stick: {seen.uuid} instead of {boot.luks_uuid}"
    if not boot.proof_end:
        return ""
    found = ""
    with contextlib.suppress(OSError):
        path = persist / generation_path(boot.proof_number)
        # A pipe in its place is not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = read_end(file.read(MAX_FILE_BYTES + 1))
    if found == boot.proof_end:
        return ""
    if found:
        return f"it is a copy of that stick: its generation {boot.proof_number} is another one"
    if boot.disk_sequence and read_sequence(node) == boot.disk_sequence:
        return ""
    return f"it is a copy of that stick: it has no generation {boot.proof_number}"


def read_sequence(node: Path) -> int:
    """The kernel's count of disks for the one that a node is on."""
    return identity.read_sequence(identity.name_disk(node))


def _refuse(places: Places, reason: str, hint: str = "") -> RamosError:
    return RamosError("cannot save to", places.persist, reason, NOTHING_LOST, hint)


def _same_device(node: str, persist: Path) -> bool:
    try:
        return Path(node).stat().st_rdev == persist.stat().st_dev
    except OSError:
        return False


def is_device_there(device: str) -> bool:
    """Whether a block device (major:minor), or every device below it, is still plugged in."""
    entry = Path("/sys/dev/block") / device
    if not entry.exists():
        return device.startswith("0:")  # not a block device at all (a test on tmpfs)
    state = entry / "device" / "state"
    if state.exists() and state.read_text().strip() in ("offline", "deleted"):
        return False
    slaves = entry / "slaves"
    names = list(slaves.iterdir()) if slaves.is_dir() else []
    return all((slave / "dev").exists() for slave in names)


def read_ext4_uuid(node: Path) -> str:
    """The UUID in an ext superblock; empty if it cannot be read or is none."""
    try:
        with node.open("rb") as file:
            file.seek(1024)
            block = file.read(1024)
    except OSError:
        return ""
    if len(block) < 1024 or struct.unpack_from("<H", block, 0x38)[0] != 0xEF53:
        return ""
    return str(uuid.UUID(bytes=block[0x68 : 0x68 + 16]))


def read_written_bytes(device: str) -> int | None:
    """How many bytes the kernel has written to a block device; None where nobody counts."""
    try:
        fields = (Path("/sys/dev/block") / device / "stat").read_text().split()
    except OSError:
        return None
    return int(fields[6]) * SECTOR_BYTES
