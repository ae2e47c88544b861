"""Mounting images so that nothing is left behind, whatever happens to this process.

Owns: loop devices, detached squashfs mounts, and what is mounted where. Refuses: names in the
file system for its own mounts. Invariant: a detached mount and its loop device live exactly as
long as their descriptor: a killed process leaves neither.

The mount calls are those of Linux 5.2 (fsopen, fsconfig, fsmount) and LOOP_CONFIGURE of 5.8; they
have the same numbers on every architecture.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RamosError, find_reason

SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 430, 431, 432
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6
CLOEXEC = 1
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
LOOP_CTL_GET_FREE, LOOP_CONFIGURE = 0x4C82, 0x4C0A
LO_FLAGS_READ_ONLY, LO_FLAGS_AUTOCLEAR = 1, 4
LOOP_INFO = "<QQQQQIIII64s64s32s2Q"
LOOP_TRIES = 50


@dataclass(frozen=True)
class MountPoint:
    """One line of /proc/self/mountinfo."""

    path: Path
    device: str
    filesystem: str
    source: str
    options: tuple[str, ...]


def find_mount(path: Path) -> MountPoint | None:
    """The mount that covers exactly this path, the topmost one; None if nothing is mounted."""
    wanted = os.path.realpath(path)
    found = None
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        place = _unescape(fields[4])
        if place == wanted:
            options = (*fields[5].split(","), *tail[2].split(","))
            found = MountPoint(Path(place), fields[2], tail[0], _unescape(tail[1]), options)
    return found


def _unescape(text: str) -> str:
    """mountinfo writes blanks, tabs, newlines and backslashes as three octal digits."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text


@contextlib.contextmanager
def mount_image(image: Path) -> Iterator[Path]:
    """Mount a squashfs file read-only where no name leads; gives the way in."""
    try:
        descriptor = _mount_detached(image)
    except OSError as error:
        reason = find_reason(error)
        if error.errno == errno.EINVAL:
            reason = "it is not a squashfs image that this kernel can read"
        raise RamosError("cannot mount", image, reason) from error
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _mount_detached(image: Path) -> int:
    loop, node = attach_loop(image)
    try:
        context = _call(SYS_FSOPEN, b"squashfs", CLOEXEC)
        try:
            _call(SYS_FSCONFIG, context, FSCONFIG_SET_STRING, b"source", node.encode(), 0)
            _call(SYS_FSCONFIG, context, FSCONFIG_SET_FLAG, b"ro", None, 0)
            _call(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
            attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
            return _call(SYS_FSMOUNT, context, CLOEXEC, attributes | MOUNT_ATTR_NOEXEC)
        finally:
            os.close(context)
    finally:
        os.close(loop)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def attach_loop(image: Path) -> tuple[int, str]:
    """A free loop device over the image; it detaches itself with its last user."""
    flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR
    info = struct.pack(LOOP_INFO, 0, 0, 0, 0, 0, 0, 0, 0, flags, b"", b"", b"", 0, 0)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    backing = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(LOOP_TRIES):
            node = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            loop = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(loop, LOOP_CONFIGURE, struct.pack("<II", backing, 0) + info + bytes(64))
            except OSError as error:
                os.close(loop)
                if error.errno != errno.EBUSY:
                    raise
                time.sleep(0.01)  # somebody else took it first
                continue
            return loop, node
        raise OSError(errno.EBUSY, "no loop device was free")
    finally:
        os.close(backing)
        os.close(control)
