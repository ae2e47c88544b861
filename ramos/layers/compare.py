"""Comparing two trees, entry by entry: is a layer what it should be?

Owns: what counts as the same entry once it is in a layer. Refuses: following links. Invariant:
everything is compared that a layer can hold: names, types, modes, owners, whole seconds of mtime,
device numbers, targets, hard links, xattrs (ACLs apart, they travel in a sidecar) and content.

Most of the time goes into the kernel (inodes, unpacking), so each processor takes its share of the
directories, in a process of its own. Nothing is held but the names of one directory and, to see
that hard links are what they were, the inodes of files with more than one name.
"""

import array
import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ramos.layers.stage import OWN_XATTRS, list_data, list_xattrs
from ramos.layers.walk import ACL_XATTRS, find_kind
from ramos.linux.child import forked

READ_BYTES = 1 << 17
STAT_BLOCK_BYTES = 512
MAX_PROCESSES = 2
SHOWN_DIFFERENCES = 3
# Whoever opens a pipe waits for somebody to write, else.
OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
FOLDER_FLAGS = OPEN_FLAGS | os.O_DIRECTORY
LEFT, RIGHT = 0, 1
DIFFERENT_XATTRS = "its extended attributes differ"
Inode = tuple[int, int, int]


@contextlib.contextmanager
def comparing(expected: Path, found: Path) -> Iterator[Callable[[], list[str]]]:
    """Compare two trees beside the block; what this gives waits for the first differences."""
    count = min(MAX_PROCESSES, os.cpu_count() or 1)
    with contextlib.ExitStack() as stack:
        answers = []
        for number in range(count):
            share = _Share(os.fsencode(expected), os.fsencode(found), number, count)
            answers.append(stack.enter_context(forked(share.compare, f"{expected} and {found}")))
        yield lambda: _join([answer() for answer in answers])


def find_differences(expected: Path, found: Path) -> list[str]:
    """The first differences between two trees, as sentences that name the entry."""
    with comparing(expected, found) as wait:
        return wait()


def _join(answers: list[bytes]) -> list[str]:
    """The differences that the shares found, and hard links that only all of them together show."""
    differences: list[str] = []
    twins: dict[Inode, Inode] = {}
    for answer in answers:
        text, _, numbers = answer.partition(b"\n")
        differences += json.loads(text)
        row = iter(array.array("Q", numbers))
        for a_device, a_inode, b_device, b_inode in zip(row, row, row, row, strict=True):
            one, other = (LEFT, a_device, a_inode), (RIGHT, b_device, b_inode)
            if twins.setdefault(one, other) != other or twins.setdefault(other, one) != one:
                differences.append("hard links: names that should lead to one file do not")
                break
    return differences[:SHOWN_DIFFERENCES]


@dataclass
class _Share:
    """Every `count`th directory of two trees, with what lies right in it."""

    left: bytes
    right: bytes
    number: int
    count: int
    differences: list[str] = field(default_factory=list)
    links: "array.array[int]" = field(default_factory=lambda: array.array("Q"))

    def compare(self) -> bytes:
        """Compare until enough is wrong; the differences, then the inodes of hard links."""
        tops = [os.path.join(top, b".") for top in (self.left, self.right)]
        reason = _compare_status(os.stat(tops[0]), os.stat(tops[1]))
        if not reason and read_xattrs(tops[0]) != read_xattrs(tops[1]):
            reason = DIFFERENT_XATTRS
        if reason and self.number == 0:
            self.differences.append(f"the top directory: {reason}")
        for at, (path, names) in enumerate(_walk_folders(self.left)):
            if at % self.count == self.number:
                self._compare_folder(path, names)
            if len(self.differences) >= SHOWN_DIFFERENCES:
                break
        return json.dumps(self.differences).encode("ascii") + b"\n" + self.links.tobytes()

    def _compare_folder(self, path: bytes, names: list[bytes]) -> None:
        left, right = os.path.join(self.left, path), os.path.join(self.right, path)
        try:
            other = os.open(right, FOLDER_FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return  # whoever compares its parent says so
        try:
            one = os.open(left, FOLDER_FLAGS)
            try:
                for name in sorted({*names, *os.listdir(right)}):
                    if reason := self._compare_entry(path, name, one, other):
                        shown = os.fsdecode(os.path.join(path, name))
                        self.differences.append(f"{shown!r}: {reason}")
            finally:
                os.close(one)
        finally:
            os.close(other)

    def _compare_entry(self, path: bytes, name: bytes, one: int, other: int) -> str:
        """Why two entries are not the same; empty if they are."""
        a, b = _look(name, one), _look(name, other)
        if a is None or b is None:
            return "" if a is b else "it is missing" if b is None else "it is too much"
        if reason := _compare_status(a, b):
            return reason
        if a.st_nlink > 1 and not stat.S_ISDIR(a.st_mode):
            self.links.extend((a.st_dev, a.st_ino, b.st_dev, b.st_ino))
        if stat.S_ISREG(a.st_mode):
            return _compare_files(name, one, other, a)
        a_path, b_path = (os.path.join(top, path, name) for top in (self.left, self.right))
        if find_kind(a_path, a) != find_kind(b_path, b):
            return "only one of the two hides what is below"
        if read_xattrs(a_path) != read_xattrs(b_path):
            return DIFFERENT_XATTRS
        if stat.S_ISLNK(a.st_mode) and os.readlink(a_path) != os.readlink(b_path):
            return "it points elsewhere"
        return ""


def _look(name: bytes, folder: int) -> os.stat_result | None:
    """The status of a name; an overlay lists whiteouts where it has nothing to merge: no entry."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _walk_folders(top: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Every directory of a tree with the names in it, depth first."""
    stack = [b""]
    while stack:
        path = stack.pop()
        names, folders = [], []
        with os.scandir(os.path.join(top, path) if path else top) as entries:
            for entry in entries:
                names.append(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
        stack += [os.path.join(path, name) for name in sorted(folders, reverse=True)]
        yield path, names


def _compare_status(a: os.stat_result, b: os.stat_result) -> str:
    is_directory = stat.S_ISDIR(a.st_mode)
    pairs = (
        ("mode", oct(a.st_mode), oct(b.st_mode)),
        ("owner", a.st_uid, b.st_uid),
        ("group", a.st_gid, b.st_gid),
        ("time", a.st_mtime_ns // 10**9, b.st_mtime_ns // 10**9),
        ("size", 0 if is_directory else a.st_size, 0 if is_directory else b.st_size),
        ("device", a.st_rdev, b.st_rdev),
    )
    return "; ".join(f"its {what} is {y} instead of {x}" for what, x, y in pairs if x != y)


def read_xattrs(entry: bytes | int) -> dict[str, bytes]:
    """Those xattrs that a layer has to keep, of a path or an open file."""
    follow = isinstance(entry, int)
    return {
        name: os.getxattr(entry, name, follow_symlinks=follow)
        for name in list_xattrs(entry)
        if name not in ACL_XATTRS
        and not (name.startswith(OWN_XATTRS) and not name.endswith(".opaque"))
    }


def _compare_files(name: bytes, one: int, other: int, status: os.stat_result) -> str:
    """Xattrs and content of a regular file in two open directories."""
    a = os.open(name, OPEN_FLAGS, dir_fd=one)
    try:
        b = os.open(name, OPEN_FLAGS, dir_fd=other)
        try:
            if read_xattrs(a) != read_xattrs(b):
                return DIFFERENT_XATTRS
            return _compare_open(a, b, status)
        finally:
            os.close(b)
    finally:
        os.close(a)


def compare_content(a: bytes, b: bytes) -> str:
    """Where the content of two regular files of one size differs."""
    one, other = os.open(a, OPEN_FLAGS), os.open(b, OPEN_FLAGS)
    try:
        return _compare_open(one, other, os.fstat(one))
    finally:
        os.close(one)
        os.close(other)


def _compare_open(one: int, other: int, status: os.stat_result) -> str:
    """Compare where the first file holds data; its holes can only be read as zeros."""
    if not all(stat.S_ISREG(os.fstat(file).st_mode) for file in (one, other)):
        return "it is no file any more"
    size = status.st_size
    is_sparse = status.st_blocks * STAT_BLOCK_BYTES < size
    for start, end in list_data(one, size) if is_sparse else ((0, size),):
        while start < end:
            count = min(READ_BYTES, end - start)
            if os.pread(one, count, start) != os.pread(other, count, start):
                return f"its content differs after byte {start}"
            start += count
    return ""
