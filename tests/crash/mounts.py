"""Mount namespaces, mounts and loop devices by system call: no process for each of 1,000 states.

Owns: the calls. Refuses: mounting anything outside a namespace of its own (see `leave_host`).
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_RDONLY = 1
MS_NOATIME = 1024
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2
LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LO_FLAGS_READ_ONLY = 1
LO_FLAGS_AUTOCLEAR = 4
LOOP_CONFIG_BYTES = 304
LOOP_INFO_OFFSET_AT = 8 + 24
LOOP_INFO_FLAGS_AT = 8 + 52
ATTACH_TRIES = 200
LIBC = ctypes.CDLL(None, use_errno=True)
HANDOVER = Path(__file__).resolve().parents[2] / "initramfs-hooks/lib/90-handover.sh"


def read_overlay_options() -> str:
    """What the boot mounts its overlay with, besides the folders."""
    words = (line.partition("=") for line in HANDOVER.read_text().splitlines())
    (options,) = [value for name, _, value in words if name == "OVERLAY_OPTIONS"]
    return options


def _check(status: int, what: object) -> None:
    if status != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(what))


def leave_host() -> None:
    """Enter a mount namespace of our own: nothing mounted from now on is seen by anyone else."""
    _check(LIBC.unshare(CLONE_NEWNS), "unshare")
    _check(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "make / private")


def mount(source: str | Path, target: Path, kind: str, options: str = "", flags: int = 0) -> None:
    """mount(2)."""
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode(), flags, options.encode())
    _check(LIBC.mount(*arguments), target)


def unmount(target: Path, flags: int = 0) -> None:
    """umount2(2), with a little patience: the kernel may still be closing a file."""
    for attempt in range(50):
        if LIBC.umount2(os.fsencode(target), flags) == 0:
            return
        code = ctypes.get_errno()
        if code != errno.EBUSY or attempt == 49:
            raise OSError(code, os.strerror(code), str(target))
        time.sleep(0.02)


@contextlib.contextmanager
def loop_device(
    file: Path, *, read_only: bool = False, sector_bytes: int = 512, start_bytes: int = 0
) -> Iterator[Path]:
    """A loop device over a file; it frees itself when the block and its last mount are gone."""
    descriptor = os.open(file, os.O_RDONLY if read_only else os.O_RDWR)
    try:
        device = _attach(descriptor, read_only, sector_bytes, start_bytes)
    finally:
        os.close(descriptor)
    path, handle = device
    try:
        yield path
    finally:
        os.close(handle)


def _attach(
    descriptor: int, read_only: bool, sector_bytes: int, start_bytes: int
) -> tuple[Path, int]:
    """Configure a free loop device; someone else may take it first, then the next one is tried."""
    flags = LO_FLAGS_AUTOCLEAR | (LO_FLAGS_READ_ONLY if read_only else 0)
    config = bytearray(LOOP_CONFIG_BYTES)
    struct.pack_into("=II", config, 0, descriptor, sector_bytes)
    struct.pack_into("=Q", config, LOOP_INFO_OFFSET_AT, start_bytes)
    struct.pack_into("=I", config, LOOP_INFO_FLAGS_AT, flags)
    for _ in range(ATTACH_TRIES):
        with open("/dev/loop-control", "rb+", buffering=0) as control:  # noqa: PTH123
            path = Path(f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}")
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(handle, LOOP_CONFIGURE, bytes(config))
            return path, handle
        except OSError as error:
            os.close(handle)
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.005)
    raise OSError(errno.EBUSY, "no loop device is free")


@contextlib.contextmanager
def mounted(
    file: Path,
    target: Path,
    kind: str = "ext4",
    options: str = "",
    flags: int = 0,
    start_bytes: int = 0,
) -> Iterator[Path]:
    """A file system in a file, mounted for the block."""
    read_only = bool(flags & MS_RDONLY)
    with loop_device(file, read_only=read_only, start_bytes=start_bytes) as device:
        mount(device, target, kind, options, flags)
        try:
            yield target
        finally:
            unmount(target)
