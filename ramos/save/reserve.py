"""Room in the upper that only a save may use, so that a full `/` can be saved.

Owns: the end of a btrfs's device, which it uses during a save alone, and the limits of a tmpfs.
Refuses: taking memory that is not free. Invariant: when a save ends, nobody has got room of it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ramos.layout import UPPER_RESERVE_BYTES
from ramos.linux import btrfs, syscalls
from ramos.linux.mounts import find_mount

# The kernel removes a snapshot a moment after it was told to, and what it took with it.
REMOVAL_SECONDS = 3.0
STEP_SECONDS = 0.02
# As at boot: this part of the RAM stays for programs.
KEPT_SHARE = 8
SPARE_ENTRIES = 1024
SPARE_BYTES = 1 << 20
Lift = Callable[[int], None]


def open_reserve(upper: Path) -> bool:
    """Let a btrfs that is nearly full have all of its device; whether it is so full."""
    if measure_free(upper) >= UPPER_RESERVE_BYTES:
        return False
    with contextlib.suppress(OSError):  # what is missing then, the snapshot says
        btrfs.resize(upper, "max")
    return True


def close_reserve(upper: Path, wait_seconds: float) -> None:
    """Take the end of the device back; where all of it is in use, the next save tries again."""
    mount, space = find_mount(upper), os.statvfs(upper)
    if mount is None:
        return
    goal = _measure_device(mount.source) - UPPER_RESERVE_BYTES
    if space.f_blocks * space.f_frsize <= goal:
        return
    deadline = time.monotonic() + wait_seconds
    while not btrfs.shrink(upper, goal) and time.monotonic() < deadline:
        time.sleep(STEP_SECONDS)


def measure_free(upper: Path) -> int:
    """The bytes that are free for whoever writes."""
    space = os.statvfs(upper)
    return space.f_bavail * space.f_frsize


def _measure_device(node: str) -> int:
    descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def measure_spare_memory() -> int:
    """How much RAM a save may take for a while."""
    import psutil  # only here: most saves need no such memory

    memory = psutil.virtual_memory()
    return int(memory.available - memory.total // KEPT_SHARE)


@contextlib.contextmanager
def lifting_limits(upper: Path) -> Iterator[Lift]:
    """A call that gives a tmpfs room for so many bytes more, and a second name for every entry.

    It is for when nobody else runs. After the block the limits are what they were.
    """
    space = os.statvfs(upper)
    size, entries = space.f_blocks * space.f_frsize, space.f_files
    taken = entries - space.f_ffree
    try:
        yield lambda more: _limit(upper, size + more + SPARE_BYTES, entries + taken + SPARE_ENTRIES)
    finally:
        _limit(upper, size, entries)


def _limit(upper: Path, size: int, entries: int) -> None:
    """Where it cannot be done, what is missing then says so itself."""
    flags = syscalls.MS_REMOUNT | syscalls.MS_NOATIME
    with contextlib.suppress(OSError):
        syscalls.mount(upper, upper, "tmpfs", flags, f"size={size},nr_inodes={entries}")
