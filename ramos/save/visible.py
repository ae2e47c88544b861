"""What somebody who is not root sees of what is not saved, by his own walk through the system.

Owns: telling by its times alone what lies in the upper, and the walk there with the rights of
whoever asks. Refuses: what takes root: the upper itself, what was deleted, others' directories.
Invariant: a directory that shows through from an image is not entered: whatever is changed below
it brings it into the upper, too.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ramos.booted import read_boot
from ramos.config import SaveConfig, compile_patterns
from ramos.layers.walk import Delta
from ramos.layout import Places
from ramos.save.diff import Change, Skip, name_kind
from ramos.save.session import Session

SECOND_NS = 10**9
Entries = list[tuple[bytes, os.stat_result]]


@dataclass(frozen=True)
class Times:
    """The moments that tell where an entry lies.

    Squashfs keeps whole seconds; a layer that was unpacked into RAM was so before init was done.
    """

    upper_ns: int = 0
    unsaved_ns: int = 0

    def is_upper(self, status: os.stat_result) -> bool:
        """Whether an entry lies in the upper."""
        changed_ns = status.st_ctime_ns
        return changed_ns >= self.upper_ns and changed_ns % SECOND_NS != 0

    def is_unsaved(self, status: os.stat_result) -> bool:
        """Whether the last save does not have it as it is."""
        return self.is_upper(status) and status.st_ctime_ns >= self.unsaved_ns


class Folder(NamedTuple):
    """A directory of the upper, and what in it lies there, too; the top has no `path`."""

    depth: int
    path: bytes
    status: os.stat_result
    entries: Entries
    is_empty: bool


def is_needed(places: Places) -> bool:
    """Whether the upper itself is not for whoever asks."""
    may_read = os.geteuid() == 0 or os.access(places.upper_dir, os.R_OK | os.X_OK)
    return places.upper.is_dir() and not may_read


def find_times(places: Places, session: Session | None) -> Times:
    """Those of this boot and of its last save."""
    is_unpacked = read_boot(places).restore == "unpack"
    upper_ns = places.boot_file.stat().st_mtime_ns if is_unpacked else 0
    return Times(upper_ns, session.moment_ns if session else 0)


def walk_upper(top: Path, times: Times, skip: Skip = lambda _path: False) -> Iterator[Folder]:
    """Every directory of the upper that can be read, parents first; other mounts are passed by."""
    root = os.fsencode(top)
    here = os.lstat(root)
    waiting = [(0, b"", here)]
    while waiting:
        depth, path, status = waiting.pop()
        seen = _list_entries(os.path.join(root, path))
        entries = [
            (name, found)
            for name, found in seen or ()
            if times.is_upper(found)
            and not _is_elsewhere(found, here.st_dev)
            and not skip(os.path.join(path, name))
        ]
        yield Folder(depth, path, status, entries, seen == [])
        waiting += [
            (depth + 1, os.path.join(path, name), found)
            for name, found in reversed(entries)
            if stat.S_ISDIR(found.st_mode)
        ]


def _list_entries(folder: bytes) -> Entries | None:
    """What can be seen in a directory, by name; None where nothing may be."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
    except OSError:
        return None
    return sorted(found)


def _is_elsewhere(status: os.stat_result, device: int) -> bool:
    """Whether it is in no save: a mount, or a socket. An overlay's directories have one device."""
    is_mount = stat.S_ISDIR(status.st_mode) and status.st_dev != device
    return is_mount or stat.S_ISSOCK(status.st_mode)


def list_written(places: Places, times: Times, skip: Skip) -> Iterator[Change]:
    """What is new or changed since the last save; of directories those with nothing in them."""
    for folder in walk_upper(places.root, times, skip):
        if folder.path and folder.is_empty and times.is_unsaved(folder.status):
            yield _describe(folder.path, folder.status)
        for name, status in folder.entries:
            if not stat.S_ISDIR(status.st_mode) and times.is_unsaved(status):
                yield _describe(os.path.join(folder.path, name), status)


def _describe(path: bytes, status: os.stat_result) -> Change:
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return Change(path, "written", name_kind(status), 0, size)


def count_written(places: Places, config: SaveConfig, session: Session | None) -> Delta:
    """The same in numbers."""
    is_systems, delta = compile_patterns(config.system), Delta()
    times = find_times(places, session)
    for change in list_written(places, times, compile_patterns(config.exclude)):
        if change.kind == "directory":
            delta.directories += 1
            continue
        delta.files += 1
        delta.size_bytes += change.size_after
        delta.system += is_systems(change.path)
    return delta
