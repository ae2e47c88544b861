"""Comparing two trees, entry by entry: is a layer what it should be?

Owns: what counts as the same entry once it is in a layer. Refuses: following links. Invariant:
everything is compared that a layer can hold: names, types, modes, owners, whole seconds of mtime,
device numbers, targets, hard links, xattrs (ACLs apart, they travel in a sidecar) and content.
"""

import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ramos.scan import ACL_XATTRS, DIRECTORIES, Entry, walk
from ramos.stage import OWN_XATTRS, list_data, list_xattrs

READ_BYTES = 1 << 20
Inode = tuple[int, int]


def find_differences(expected: Path, found: Path, *, with_top: bool = True) -> Iterator[str]:
    """What differs between two trees, as sentences that name the entry; the first ends a pair."""
    left, right = os.fsencode(expected), os.fsencode(found)
    reason = _compare_status(os.stat(left), os.stat(right))
    if with_top and reason:
        yield f"the top directory: {reason}"
    inodes: dict[Inode, Inode] = {}
    for one, other in itertools.zip_longest(walk(left), walk(right)):
        if one is None or other is None or one.path != other.path:
            yield _name_odd_one(one, other)
            return
        if reason := _compare_entry(left, right, one, other, inodes):
            yield f"{_show(one.path)}: {reason}"


def _name_odd_one(one: Entry | None, other: Entry | None) -> str:
    if other is None or (one is not None and one.path < other.path):
        assert one is not None
        return f"{_show(one.path)}: it is missing"
    return f"{_show(other.path)}: it should not be there"


def _show(path: bytes) -> str:
    return repr(os.fsdecode(path))


def _compare_entry(
    left: bytes, right: bytes, one: Entry, other: Entry, inodes: dict[Inode, Inode]
) -> str:
    """Why two entries are not the same; empty if they are."""
    a, b = os.path.join(left, one.path), os.path.join(right, other.path)
    mode = one.status.st_mode
    if one.kind != other.kind:
        return f"it is of kind {other.kind} instead of {one.kind}"
    if reason := _compare_status(one.status, other.status):
        return reason
    if one.kind not in DIRECTORIES and one.status.st_nlink > 1:
        twin = (other.status.st_dev, other.status.st_ino)
        if inodes.setdefault((one.status.st_dev, one.status.st_ino), twin) != twin:
            return "it is no hard link any more"
    if read_xattrs(a) != read_xattrs(b):
        return "its extended attributes differ"
    if stat.S_ISLNK(mode) and os.readlink(a) != os.readlink(b):
        return "it points elsewhere"
    if stat.S_ISREG(mode):
        return compare_content(a, b, one.status.st_size)
    return ""


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


def read_xattrs(path: bytes) -> dict[str, bytes]:
    """Those xattrs that a layer has to keep."""
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in list_xattrs(path)
        if name not in ACL_XATTRS
        and not (name.startswith(OWN_XATTRS) and not name.endswith(".opaque"))
    }


def compare_content(a: bytes, b: bytes, size: int) -> str:
    """Compare where the first file holds data; its holes can only be read as zeros."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    one, other = os.open(a, flags), os.open(b, flags)
    try:
        for start, end in list_data(one, size):
            while start < end:
                count = min(READ_BYTES, end - start)
                if os.pread(one, count, start) != os.pread(other, count, start):
                    return f"its content differs after byte {start}"
                start += count
    finally:
        os.close(one)
        os.close(other)
    return ""
