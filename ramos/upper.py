"""The RAM filesystem that takes all writes, seen at one point in time.

Owns: snapshots of a btrfs upper, and the stage of a tmpfs one. Refuses: keeping any of them beyond
the block that asked. Invariant: what a commit reads does not change while it reads it.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RamosError
from ramos.fs import crash_point
from ramos.mounts import find_mount
from ramos.places import Places

SUBVOLUME_ROOT_INODE = 256
# <linux/btrfs.h>: _IOW(0x94, 23, 4096 bytes) and _IOW(0x94, 15, 4096 bytes).
SNAP_CREATE_V2 = 0x50009417
SNAP_DESTROY = 0x5000940F
PREFIX = "commit-"
# CLOCK_REALTIME_COARSE: the clock that ctimes are made with.
COARSE_CLOCK = 5


@dataclass(frozen=True)
class Moment:
    """A point in time of the upper: where it can be read, and what taking it cost."""

    folder: Path
    pause_seconds: float
    racy_from_ns: int
    racy_until_ns: int

    @property
    def tree(self) -> Path:
        """The upperdir as it was then."""
        return self.folder / "upper"


def has_snapshots(places: Places) -> bool:
    """Whether the upper is a btrfs subvolume."""
    mount = find_mount(places.upper)
    if mount is None or mount.filesystem != "btrfs":
        return False
    return places.upper.stat().st_ino == SUBVOLUME_ROOT_INODE


@contextlib.contextmanager
def take_snapshot(places: Places) -> Iterator[Moment]:
    """A snapshot of the whole upper, ours to edit; it is gone with the block."""
    places.snapshots_dir.mkdir(mode=0o700, exist_ok=True)
    folder = places.snapshots_dir / f"{PREFIX}{os.getpid()}"
    sync_filesystem(places.upper)
    before_ns = time.clock_gettime_ns(COARSE_CLOCK)
    started = time.monotonic()
    _snapshot(places.upper, folder)
    pause = time.monotonic() - started
    after_ns = time.time_ns()
    try:
        crash_point("snapshot-taken")
        yield Moment(folder, pause, before_ns, after_ns)
    finally:
        _destroy(folder)


def _snapshot(source: Path, target: Path) -> None:
    """Without it, dirty pages would be flushed inside the pause: `sync_filesystem` goes first."""
    top = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = os.fsencode(target.name)
        argument = bytearray(struct.pack("<qQQ32x4040s", top, 0, 0, name))
        fcntl.ioctl(parent, SNAP_CREATE_V2, argument)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RamosError(
            "cannot take a snapshot of", source, reason, "Nothing was saved"
        ) from error
    finally:
        os.close(parent)
        os.close(top)


def _destroy(folder: Path) -> None:
    parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        argument = bytearray(struct.pack("<q4088s", 0, os.fsencode(folder.name)))
        fcntl.ioctl(parent, SNAP_DESTROY, argument)
    except FileNotFoundError:
        return
    finally:
        os.close(parent)


def sync_filesystem(path: Path) -> None:
    """Flush everything of the filesystem that holds `path`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise RamosError("cannot sync", path, os.strerror(code), "Nothing was saved")
    finally:
        os.close(descriptor)


def clean_leftovers(places: Places) -> None:
    """Remove snapshots and stages of a commit that did not live to do it."""
    if places.snapshots_dir.is_dir():
        for folder in places.snapshots_dir.glob(f"{PREFIX}*"):
            _destroy(folder)
    shutil.rmtree(os.fsencode(places.stage_dir), ignore_errors=True)
