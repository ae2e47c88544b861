"""The ESP of the running stick: mounted only while it is needed.

Owns: finding it, mounting it, and the in-place write of its sectors. Refuses: renaming over,
truncating or rewriting anything (measured: only new names, or one sector in place, survive a power
cut on FAT). Invariants: it is found on the same disk as persist, whatever that is called by now,
never by a label that another stick may bear too; before it is written it is whole, and says of
itself that it is in use; grubenv stays one sector at the same place.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ramos import layout
from ramos.boot import grubenv
from ramos.booted import Boot
from ramos.errors import RamosError
from ramos.linux import fs, syscalls
from ramos.linux.mounts import find_mount
from ramos.linux.run import run
from ramos.stick import identity, watch
from ramos.stick.check import find_difference

MOUNT_POINT = layout.RUN_DIR / "esp"
LOCK = layout.LOCK_FILE.with_name("esp")
LOCK_WAIT_SECONDS = 60
# A power cut can leave a file whose clusters are not all on record, in a directory that does not
# count yet. By default the kernel would stop all writing when that file is deleted.
OPTIONS = "umask=077,errors=continue"
# Where the first sector of a FAT32 says that it is, or was left, mounted to be written.
STATE_AT, IN_USE = 65, 1
REPAIR_SECONDS = 300
MOST_PASSES = 8
# What fsck.fat makes of clusters that no directory names: here, parts of a kernel.
SALVAGED = "FSCK????.REC"
UNCHANGED = "The ESP is as it was"


def find_esp(boot: Boot) -> Path:
    """The ESP of the stick that this system booted from."""
    for disk in filter(None, map(identity.name_disk, _list_parts(boot))):
        for node in identity.list_partitions(disk):
            seen = identity.read_identity(node)
            if seen.kind == "vfat" and boot.esp_uuid.upper() in ("", seen.uuid):
                return node
    raise RamosError(
        "cannot find the ESP",
        boot.persist or "persist",
        f"no FAT32 partition {boot.esp_uuid or ''} on the same disk".replace("  ", " "),
        UNCHANGED,
        "Is the stick plugged in?",
    )


def _list_parts(boot: Boot) -> Iterator[Path]:
    """Where persist may be: mounted, or plugged in under another name than at boot."""
    if (mounted := find_mount(layout.PERSIST_DIR)) is not None:
        yield Path(mounted.source)
    known = watch.remember_stick(boot)
    if known is None:
        yield Path(boot.persist)
    elif (returned := watch.find_returned(known)) is not None:
        yield returned


def refuse_copy(boot: Boot, node: Path, persist: Path = layout.PERSIST_DIR) -> None:
    """Stop unless an ESP is on the disk that was booted, or beside a persist that proves to be."""
    disk = identity.name_disk(node)
    if boot.disk_sequence and identity.read_sequence(disk) == boot.disk_sequence:
        return
    mounted = find_mount(persist)
    if mounted is None:
        reason = "the stick that this system was started from was unplugged" * bool(
            boot.disk_sequence
        )
    elif identity.name_disk(Path(mounted.source)) != disk:
        reason = "persist is on another disk"
    else:
        reason = find_difference(boot, persist, Path(mounted.source))
    if reason:
        hint = "Put the stick back in that this system was started from."
        raise RamosError("cannot write to the ESP", node, reason, UNCHANGED, hint)


@contextlib.contextmanager
def mount_esp(boot: Boot, *, writable: bool) -> Iterator[Path]:
    """The mounted ESP, for the length of the block."""
    with fs.hold_lock(LOCK, "using the ESP", wait_seconds=LOCK_WAIT_SECONDS):
        node = find_esp(boot)
        if writable:
            refuse_copy(boot, node)
        yield from _mounted(node, writable)


def _mounted(node: Path, writable: bool) -> Iterator[Path]:
    MOUNT_POINT.mkdir(parents=True, exist_ok=True)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC | syscalls.MS_NOATIME
    if not writable:
        flags |= syscalls.MS_RDONLY
    repaired = writable and repair(node)
    try:
        syscalls.mount(node, MOUNT_POINT, "vfat", flags, OPTIONS)
    except OSError as error:
        raise RamosError("cannot mount the ESP", node, error, UNCHANGED) from error
    try:
        if repaired:
            for salvaged in MOUNT_POINT.glob(SALVAGED):
                salvaged.unlink()
        if writable:
            # The mark of being in use is durable before anything that a cut could leave half done.
            fs.sync_directory(MOUNT_POINT)
        yield MOUNT_POINT
    finally:
        syscalls.unmount(MOUNT_POINT, lazily=True)


def repair(node: Path) -> bool:
    """Put a FAT right that was in use when the power went; whether there was anything to do.

    A cut can leave the name of a directory without the directory: the kernel then refuses to look
    at it, to delete it, and to make it anew.
    """
    try:
        with node.open("rb", buffering=0) as device:
            mark = os.pread(device.fileno(), 1, STATE_AT)
        if not mark or not mark[0] & IN_USE:
            return False
        # Nobody else can mount it meanwhile; when somebody has, it is not ours to repair.
        descriptor = os.open(node, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError:
        return False
    # What cannot be repaired may do as it is: GRUB, too, has read it like that.
    with os.fdopen(descriptor), contextlib.suppress(OSError, RamosError):
        _repair(node, descriptor, mark[0])
    return True


def _repair(node: Path, descriptor: int, mark: int) -> None:
    """One pass of fsck.fat can leave work to the next, but takes the mark away at once.

    It stays on the stick until everything else is there: another cut may come.
    """
    sound = any(
        run(["fsck.fat", "-a", node], check=False, timeout_seconds=REPAIR_SECONDS).code == 0
        for _ in range(MOST_PASSES)
    )
    for state in (mark, mark & ~IN_USE) if sound else (mark,):
        os.pwrite(descriptor, bytes([state]), STATE_AT)
        os.fsync(descriptor)


def read_env(esp: Path) -> grubenv.BootEnv:
    """What GRUB remembers."""
    path = esp / layout.GRUBENV
    try:
        return grubenv.parse(path.read_bytes())
    except OSError as error:
        raise RamosError("cannot read", path, error, UNCHANGED) from error


def write_env(esp: Path, env: grubenv.BootEnv) -> bool:
    """Write what GRUB remembers, where it differs; whether anything was written."""
    return _write_sector(esp / layout.GRUBENV, grubenv.render(env))


def write_titles(esp: Path, data: bytes) -> bool:
    """Write what the menu says; an older stick has no place for it."""
    path = esp / layout.MENU_TITLES
    return path.exists() and _write_sector(path, data)


def _write_sector(path: Path, data: bytes) -> bool:
    """In place, where it differs; whether anything was written."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC)
    except OSError as error:
        raise RamosError("cannot write", path, error, UNCHANGED) from error
    try:
        if os.fstat(descriptor).st_size != grubenv.SIZE_BYTES:
            raise RamosError("cannot write", path, "it is not one sector long", UNCHANGED)
        if os.pread(descriptor, grubenv.SIZE_BYTES, 0) == data:
            return False
        if os.pwrite(descriptor, data, 0) != grubenv.SIZE_BYTES:
            raise RamosError("cannot write", path, "only a part was taken", "It may be damaged")
        return True
    except OSError as error:
        raise RamosError("cannot write", path, error, "It may be damaged") from error
    finally:
        os.close(descriptor)
