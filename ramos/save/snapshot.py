"""The RAM filesystem that takes all writes, seen at one point in time.

Owns: snapshots of a btrfs upper, and the clean-up of what a killed commit left in an upper.
Refuses: keeping a snapshot beyond the block that asked. Invariant: what a commit reads does not
change while it reads it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RamosError
from ramos.layers.stage import remove_stage
from ramos.layout import Places
from ramos.linux import btrfs, syscalls
from ramos.linux.freeze import Pause, freeze_others
from ramos.linux.fs import crash_point
from ramos.linux.mounts import find_mount
from ramos.save.reserve import REMOVAL_SECONDS, close_reserve, open_reserve

PREFIX = "commit-"
# CLOCK_REALTIME_COARSE: the clock that ctimes are made with.
COARSE_CLOCK = 5


@dataclass(frozen=True)
class Moment:
    """A point in time of the upper: where it can be read, and what taking it cost.

    In a full upper everybody stands still until `let_go`, or others would take what a save needs.
    """

    folder: Path
    pause: Pause
    let_go: Callable[[], None]
    racy_from_ns: int
    racy_until_ns: int
    birth: int

    @property
    def tree(self) -> Path:
        """The upperdir as it was then."""
        return self.folder / "upper"


def has_snapshots(places: Places) -> bool:
    """Whether the upper is a btrfs subvolume."""
    mount = find_mount(places.upper)
    return mount is not None and btrfs.is_subvolume(places.upper, mount.filesystem)


@contextlib.contextmanager
def take_snapshot(places: Places, *, live: bool) -> Iterator[Moment]:
    """A snapshot of the whole upper, ours to edit; it is gone with the block.

    The kernel flushes what is dirty and then commits, and programs write in between: a file that
    was deleted then is gone from the snapshot, what was written before that is not yet in it. A
    database was broken so in 3 of 100 snapshots. So nobody else may run meanwhile.
    """
    places.snapshots_dir.mkdir(mode=0o700, exist_ok=True)
    folder = places.snapshots_dir / f"{PREFIX}{os.getpid()}"
    # Dirty pages would be flushed inside the pause otherwise.
    sync_filesystem(places.upper)
    is_full = False
    try:
        with contextlib.ExitStack() as still:
            freezing = freeze_others() if live else contextlib.nullcontext(Pause())
            pause = still.enter_context(freezing)
            before_ns = time.clock_gettime_ns(COARSE_CLOCK)
            is_full = open_reserve(places.upper)
            btrfs.create_snapshot(places.upper, folder)
            if not is_full:
                still.close()
            after_ns = time.time_ns()
            crash_point("snapshot-taken")
            birth = btrfs.read_birth(folder)
            yield Moment(folder, pause, still.close, before_ns, after_ns, birth)
    finally:
        btrfs.destroy_snapshot(folder)
        with contextlib.suppress(OSError):
            close_reserve(places.upper, REMOVAL_SECONDS if is_full else 0)


def sync_filesystem(path: Path) -> None:
    """Flush everything of the filesystem that holds `path`."""
    try:
        syscalls.sync_filesystem(path)
    except OSError as error:
        raise RamosError("cannot sync", path, error, "Nothing was saved") from None


def clean_leftovers(places: Places) -> None:
    """Remove snapshots and stages of a commit that did not live to do it."""
    if places.snapshots_dir.is_dir():
        for folder in places.snapshots_dir.glob(f"{PREFIX}*"):
            btrfs.destroy_snapshot(folder)
    remove_stage(os.fsencode(places.stage_dir))
