"""What a tree shows, in a form that two moments can be compared by.

Owns: the eyes of the oracle: its own walk, its own stat, its own reading of xattrs. Refuses: any
help from the engine that it judges, for a name that both pass over would be lost unseen.
Invariant: times count by the second between 1970 and 2106, for no squashfs holds others; all else
counts to the last bit, ACLs and hard links among it. Sockets are never kept.
"""

import errno
import fnmatch
import hashlib
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

Shape = dict[bytes, tuple[object, ...]]
MAX_SECONDS = (1 << 32) - 1
ACL_NAMES = ("system.posix_acl_access", "system.posix_acl_default")
# user::rw-, user:1000:r--, group::r--, mask::r--, other::r-- as the kernel's xattr has it.
ACL_ENTRIES = ((1, 6, -1), (2, 4, 1000), (4, 4, -1), (16, 4, -1), (32, 4, -1))
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in ACL_ENTRIES)


def capture(top: Path, excludes: Iterable[str] = (), without: Iterable[str] = ()) -> Shape:
    """Every entry below `top` with all that a save has to keep, but the xattrs `without`."""
    root = os.fsencode(top)
    found: Shape = {}
    links: dict[tuple[int, int], bytes] = {}
    for path in sorted(_list_paths(root, [pattern.strip("/") for pattern in excludes])):
        full = os.path.join(root, path)
        status = os.lstat(full)
        if stat.S_ISSOCK(status.st_mode):
            continue
        first = path
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            first = links.setdefault((status.st_dev, status.st_ino), path)
        found[path] = (
            oct(status.st_mode),
            status.st_uid,
            status.st_gid,
            min(max(status.st_mtime_ns // 10**9, 0), MAX_SECONDS),
            _read_content(full, status),
            first,
            tuple((name, value) for name, value in _read_xattrs(full) if name not in without),
        )
    return found


def _list_paths(root: bytes, excludes: list[str]) -> Iterator[bytes]:
    """All names below a directory; an excluded one is not entered, and a star takes a slash."""
    for folder, directories, files in os.walk(root, onerror=_fail):
        below = os.path.relpath(folder, root)
        prefix = b"" if below == b"." else below + b"/"
        kept = {
            name: prefix + name
            for name in (*directories, *files)
            if not any(fnmatch.fnmatchcase(os.fsdecode(prefix + name), p) for p in excludes)
        }
        directories[:] = [name for name in directories if name in kept]
        yield from kept.values()


def _fail(error: OSError) -> None:
    raise error


def _read_content(path: bytes, status: os.stat_result) -> object:
    """The bytes of a file (a hole is zeros), the target of a link, the number of a device."""
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return status.st_size, hashlib.file_digest(file, "sha256").hexdigest()
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if stat.S_ISDIR(status.st_mode):
        return None
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def _read_xattrs(path: bytes) -> list[tuple[str, bytes]]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise
    return [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]


def explain(expected: Shape, found: Shape) -> list[str]:
    """How two trees differ, in words."""
    lines = [f"missing: {path!r}" for path in expected.keys() - found.keys()]
    lines += [f"too much: {path!r}" for path in found.keys() - expected.keys()]
    for path in expected.keys() & found.keys():
        if expected[path] != found[path]:
            lines.append(f"{path!r}: {expected[path]} became {found[path]}")
    return sorted(lines)
