"""Calls of the C library that Python's own modules lack.

Owns: mount, umount, swap, inotify, memory locking, power-off, the loop device's change of its file.
Refuses: deciding anything. Invariant: a call that fails raises OSError with its errno. No program
is started for any of them: they also work while the system's own programs cannot be read, because
the stick is gone.
"""

import contextlib
import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
CLONE_NEWNS = 0x20000
SYS_MOVE_MOUNT, MOVE_MOUNT_F_EMPTY_PATH, AT_FDCWD = 429, 4, -100
MNT_DETACH = 0x2
MCL_CURRENT = 1
MCL_FUTURE = 2
MCL_ONFAULT = 4
SWAP_FLAG_PREFER = 0x8000
LOOP_CHANGE_FD = 0x4C06
RB_POWER_OFF = 0x4321FEDC

IN_ATTRIB = 0x4
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
IN_DONT_FOLLOW = 0x2000000
IN_NAMES = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
EVENT_HEADER = struct.Struct("iIII")


def _check(status: int, obj: object) -> int:
    if status < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(obj))
    return status


def mount(source: Path, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a filesystem, or change the flags of a mounted one (MS_REMOUNT)."""
    words = [os.fsencode(word) for word in (source, target, kind)]
    _check(LIBC.mount(*words, ctypes.c_ulong(flags), os.fsencode(options) or None), target)


def leave_mounts() -> None:
    """From now on what this process mounts is seen by nobody else."""
    _check(LIBC.unshare(CLONE_NEWNS), "unshare")
    _check(LIBC.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "/")


def attach_mount(descriptor: int, target: Path) -> None:
    """Give a detached mount a name."""
    words = (descriptor, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)
    _check(LIBC.syscall(SYS_MOVE_MOUNT, *words), target)


def unmount(target: Path, *, lazily: bool = False) -> None:
    """Take a mount away; lazily: from the names now, from the users when they are done."""
    _check(LIBC.umount2(os.fsencode(target), MNT_DETACH if lazily else 0), target)


def sync_filesystem(path: Path) -> None:
    """Write out everything of the filesystem that holds `path`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(LIBC.syncfs(descriptor), path)
    finally:
        os.close(descriptor)


def swap_on(path: Path, priority: int) -> None:
    """Use a swap file or device."""
    _check(LIBC.swapon(os.fsencode(path), SWAP_FLAG_PREFER | priority), path)


def swap_off(path: Path) -> None:
    """Bring everything back from a swap file or device, and stop using it."""
    _check(LIBC.swapoff(os.fsencode(path)), path)


def lock_memory() -> None:
    """Keep in RAM all that this process consists of now, and what it will touch, if we may."""
    with contextlib.suppress(OSError):
        _check(LIBC.mlockall(MCL_CURRENT), "memory")
        _check(LIBC.mlockall(MCL_FUTURE | MCL_ONFAULT), "memory")


def lock_future() -> None:
    """Keep in RAM, as a whole, what this process will map."""
    _check(LIBC.mlockall(MCL_FUTURE), "memory")


def power_off() -> None:
    """Switch the machine off at once: nothing is flushed or unmounted."""
    _check(LIBC.reboot(ctypes.c_int(RB_POWER_OFF)), "the machine")


def change_loop_file(loop: Path, file: Path) -> None:
    """Give a read-only loop device another file of the same size, under whatever is mounted."""
    device = os.open(loop, os.O_RDONLY | os.O_CLOEXEC)
    try:
        backing = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, LOOP_CHANGE_FD, backing)
        finally:
            os.close(backing)
    finally:
        os.close(device)


def open_inotify() -> int:
    """A descriptor that tells of changes; it never blocks."""
    return _check(LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")


def watch(inotify: int, path: Path, mask: int) -> int:
    """Add a watch; its number."""
    return _check(LIBC.inotify_add_watch(inotify, os.fsencode(path), mask), path)


def unwatch(inotify: int, number: int) -> None:
    """Take a watch away."""
    _check(LIBC.inotify_rm_watch(inotify, number), number)


def read_inotify(inotify: int) -> Iterator[tuple[int, int, bytes]]:
    """The (watch, mask, name) of everything that is waiting."""
    while True:
        try:
            data = os.read(inotify, 65536)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            number, mask, _, length = EVENT_HEADER.unpack_from(data, offset)
            offset += EVENT_HEADER.size
            yield number, mask, data[offset : offset + length].rstrip(b"\0")
            offset += length
