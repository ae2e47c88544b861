"""What takes the room for changes: the upper, directory by directory.

Owns: the sums and the choice of which directories say something. Refuses: following links or
leaving the upper. Invariant: since the upper starts empty at every boot, all that is in it has
grown since then.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ramos.layers.obstacles import MAX_PATH_BYTES
from ramos.layout import Places
from ramos.linux.beneath import walk_folders
from ramos.save.session import Session
from ramos.save.visible import Times, find_times, walk_upper

BLOCK_BYTES = 512
# A directory that is hardly larger than its largest part says nothing that the part does not say.
TELLING_SHARE = 0.8


@dataclass(frozen=True)
class Directory:
    """What is below a directory of the upper: all of it, and what the last save does not have."""

    path: str
    total_bytes: int
    unsaved_bytes: int
    files: int


@dataclass
class _Sum:
    path: bytes
    total: int = 0
    unsaved: int = 0
    files: int = 0

    def add(self, other: "_Sum") -> None:
        self.total += other.total
        self.unsaved += other.unsaved
        self.files += other.files


# Depth and name of a directory, and what lies in it and is none.
Walked = Iterator[tuple[int, bytes, list[os.stat_result]]]
IsUnsaved = Callable[[os.stat_result], bool]


def measure_upper(upper: Path, saved_at: float) -> list[Directory]:
    """Every directory of the upper with its sums, the largest first."""
    return add_up(walk_folders(upper), lambda status: status.st_ctime > saved_at)


def measure_visible(places: Places, session: Session | None) -> list[Directory]:
    """The same, as far as somebody can see who is not root."""
    times = find_times(places, session)
    return add_up(_walk_visible(places, times), times.is_unsaved)


def _walk_visible(places: Places, times: Times) -> Walked:
    for folder in walk_upper(places.root, times):
        statuses = [s for _, s in folder.entries if not stat.S_ISDIR(s.st_mode)]
        yield folder.depth, folder.path.rpartition(b"/")[2], statuses


def measure_unseen(places: Places, seen: list[Directory]) -> int:
    """What else takes room in the upper: directories of others, and what is deleted but open."""
    space = os.statvfs(places.upper)
    used = (space.f_blocks - space.f_bfree) * space.f_frsize
    return max(0, used - max((directory.total_bytes for directory in seen), default=0))


def add_up(walked: Walked, is_unsaved: IsUnsaved) -> list[Directory]:
    """Every directory with its sums, the largest first.

    What is too deep to be saved counts for the last directory above it that is not.
    """
    found: list[_Sum] = []
    way: list[_Sum] = []
    links: set[tuple[int, int]] = set()
    for depth, name, statuses in walked:
        _fold(way, depth)
        above = way[-1].path if way else b""
        here = _Sum(above)
        if len(above) <= MAX_PATH_BYTES:
            here.path = b"%s/%s" % (above, name) if way else b""
            found.append(here)
        way.append(here)
        for status in statuses:
            _count(status, is_unsaved, here, links)
    _fold(way, 0)
    listed = [Directory(os.fsdecode(s.path) or "/", s.total, s.unsaved, s.files) for s in found]
    return sorted(listed, key=lambda d: (-d.total_bytes, d.path))


def _fold(way: list[_Sum], depth: int) -> None:
    """Directories that are done go into the one that they lie in."""
    while len(way) > depth:
        below = way.pop()
        if way:
            way[-1].add(below)


def _count(
    status: os.stat_result, is_unsaved: IsUnsaved, here: _Sum, links: set[tuple[int, int]]
) -> None:
    if status.st_nlink > 1:
        key = (status.st_dev, status.st_ino)
        if key in links:
            return
        links.add(key)
    size = status.st_blocks * BLOCK_BYTES
    here.total += size
    here.files += 1
    if is_unsaved(status):
        here.unsaved += size


def pick_telling(directories: list[Directory], count: int) -> list[Directory]:
    """The largest directories, without those that one of their own parts accounts for."""
    children: dict[str, int] = {}
    for directory in directories:
        parent = directory.path.rpartition("/")[0] or "/"
        if directory.path != "/":
            children[parent] = max(children.get(parent, 0), directory.total_bytes)
    telling = [
        d
        for d in directories
        if d.path == "/" or children.get(d.path, 0) <= TELLING_SHARE * d.total_bytes
    ]
    return [d for d in telling if d.total_bytes > 0][:count]
