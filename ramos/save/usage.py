"""What takes the room for changes: the upper, directory by directory.

Owns: the sums and the choice of which directories say something. Refuses: following links or
leaving the upper. Invariant: since the upper starts empty at every boot, all that is in it has
grown since then.
"""

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

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
    total: int = 0
    unsaved: int = 0
    files: int = 0

    def add(self, other: "_Sum") -> None:
        self.total += other.total
        self.unsaved += other.unsaved
        self.files += other.files


def measure_upper(upper: Path, saved_at: float) -> list[Directory]:
    """Every directory of the upper with its sums, the largest first."""
    sums: dict[bytes, _Sum] = {}
    links: set[tuple[int, int]] = set()
    top = os.fsencode(upper)
    for folder, names, files in os.walk(top, topdown=False):
        here = _Sum()
        for name in (*files, *names):
            with contextlib.suppress(OSError):
                _count(os.lstat(b"%s/%s" % (folder, name)), saved_at, here, links)
        for name in names:
            below = sums.get(b"%s/%s" % (folder, name))
            if below is not None:
                here.add(below)
        sums[folder] = here
    found = [
        Directory("/" + os.fsdecode(path[len(top) + 1 :]), s.total, s.unsaved, s.files)
        for path, s in sums.items()
    ]
    return sorted(found, key=lambda d: (-d.total_bytes, d.path))


def _count(
    status: os.stat_result, saved_at: float, here: _Sum, links: set[tuple[int, int]]
) -> None:
    if stat.S_ISDIR(status.st_mode):
        return
    if status.st_nlink > 1:
        key = (status.st_dev, status.st_ino)
        if key in links:
            return
        links.add(key)
    size = status.st_blocks * BLOCK_BYTES
    here.total += size
    here.files += 1
    if status.st_ctime > saved_at:
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
