"""What a tree shows, in a form that two moments can be compared by."""

import hashlib
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from ramos.scan import ACL_XATTRS, compile_excludes, walk
from ramos.stage import list_xattrs

Shape = dict[bytes, tuple[object, ...]]
MAX_SECONDS = (1 << 32) - 1
# user::rw-, user:1000:r--, group::r--, mask::r--, other::r-- as the kernel's xattr has it.
ACL_ENTRIES = ((1, 6, -1), (2, 4, 1000), (4, 4, -1), (16, 4, -1), (32, 4, -1))
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in ACL_ENTRIES)


def capture(top: Path, excludes: Iterable[str] = ()) -> Shape:
    """Every entry below `top` with all that a save has to keep; sockets are never kept."""
    found: Shape = {}
    links: dict[tuple[int, int], bytes] = {}
    root = os.fsencode(top)
    for entry in walk(root, compile_excludes(excludes)):
        status, path = entry.status, os.path.join(root, entry.path)
        mode = status.st_mode
        if stat.S_ISSOCK(mode):
            continue
        content: object = None
        if stat.S_ISREG(mode):
            with open(path, "rb") as file:
                content = (status.st_size, hashlib.file_digest(file, "md5").hexdigest())
        elif stat.S_ISLNK(mode):
            content = os.readlink(path)
        elif not stat.S_ISDIR(mode):
            content = status.st_rdev
        twin = entry.path
        if not stat.S_ISDIR(mode) and status.st_nlink > 1:
            twin = links.setdefault((status.st_dev, status.st_ino), entry.path)
        seconds = min(max(status.st_mtime_ns // 10**9, 0), MAX_SECONDS)
        found[entry.path] = (
            mode,
            status.st_uid,
            status.st_gid,
            seconds,
            content,
            twin,
            _read_xattrs(path),
        )
    return found


def _read_xattrs(path: bytes) -> tuple[tuple[str, bytes], ...]:
    names = list_xattrs(path)
    return tuple(
        (name, os.getxattr(path, name, follow_symlinks=False))
        for name in names
        if name not in ACL_XATTRS
    )


def capture_acls(top: Path, paths: Iterable[bytes]) -> dict[tuple[bytes, str], bytes]:
    """The ACLs of a live tree."""
    found = {}
    for path in paths:
        full = os.path.join(os.fsencode(top), path)
        for name in ACL_XATTRS:
            try:
                found[path, name] = os.getxattr(full, name, follow_symlinks=False)
            except OSError:
                continue
    return found


def explain(expected: Shape, found: Shape) -> list[str]:
    """How two trees differ, in words."""
    lines = [f"missing: {path!r}" for path in expected.keys() - found.keys()]
    lines += [f"too much: {path!r}" for path in found.keys() - expected.keys()]
    for path in expected.keys() & found.keys():
        if expected[path] != found[path]:
            lines.append(f"{path!r}: {expected[path]} became {found[path]}")
    return sorted(lines)
