"""Walking the upper, and finding what changed since it was last saved in this boot.

Owns: the walk, the index of what was saved, the comparison. Refuses: changing anything it walks.
Invariants: entries come in one order, always (depth first, names by their bytes), so that a walk
and an index are compared in one pass with little memory; a change is `!=` on type, mode, owner,
size, mtime, ctime and inode, never "newer than"; an entry that vanishes while we look is absent.

The index is a zlib stream of records: length of the path (2 bytes), kind (1), inode (8),
fingerprint (8), path. A fingerprint of zeros matches nothing: so are entries recorded whose ctime
is not older than the snapshot by the clock that ctimes are made with, for they could change again
unnoticed. On btrfs the inodes that changed at all are known, and only they are looked at.
"""

import fnmatch
import hashlib
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from ramos.errors import RamosError

OTHER, DIRECTORY, OPAQUE, WHITEOUT, SOCKET = range(5)
DIRECTORIES = (DIRECTORY, OPAQUE)
OPAQUE_XATTR = "trusted.overlay.opaque"
ACL_XATTRS = ("system.posix_acl_access", "system.posix_acl_default")
NEVER = bytes(8)
RECORD = struct.Struct("<HBQ8s")
STAT = struct.Struct("<IIIQQqqQ")
READ_BYTES = 1 << 16
MAX_TIME_SECONDS = (1 << 32) - 1


class Entry(NamedTuple):
    """One entry of a tree: its path below the top, its lstat and its kind."""

    path: bytes
    status: os.stat_result
    kind: int


class Saved(NamedTuple):
    """One entry of an index."""

    path: bytes
    kind: int
    inode: int
    fingerprint: bytes


@dataclass
class Delta:
    """What a commit has to store. Everything below a path in `whole` goes with it."""

    moves: list[bytes] = field(default_factory=list)
    folders: list[bytes] = field(default_factory=list)
    gone: list[bytes] = field(default_factory=list)
    files: int = 0
    directories: int = 0
    whiteouts: int = 0
    size_bytes: int = 0
    stored_bytes: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    same_size_pairs: int = 0
    sockets: list[bytes] = field(default_factory=list)
    bare_sockets: set[bytes] = field(default_factory=set)
    clamped: list[bytes] = field(default_factory=list)
    excluded: list[bytes] = field(default_factory=list)
    acls: list[bytes] = field(default_factory=list)

    def add_size(self, size: int) -> None:
        """Count a file's bytes, and how many files before it had just as many."""
        before = self.sizes.get(size, 0)
        self.sizes[size] = before + 1
        self.same_size_pairs += before
        self.size_bytes += size

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to save."""
        return not (self.files or self.directories or self.whiteouts)


def compile_excludes(patterns: Iterable[str]) -> Callable[[bytes], bool]:
    """A test for paths that are never saved; a star does match a slash, as in `tmp/*`."""
    joined = "|".join(fnmatch.translate(pattern.strip("/")) for pattern in patterns)
    if not joined:
        return lambda _path: False
    match = re.compile(os.fsencode(joined), re.DOTALL).match
    return lambda path: match(path) is not None


def walk(top: bytes, skip: Callable[[bytes], bool] | None = None) -> Iterator[Entry]:
    """All entries below a directory in the one order; a skipped directory is not entered."""
    return (entry for entry in walk_unknown(top, skip, None) if isinstance(entry, Entry))


def walk_unknown(
    top: bytes,
    skip: Callable[[bytes], bool] | None,
    recall: Callable[[bytes, int], Saved | None] | None,
) -> Iterator[Entry | Saved]:
    """The walk; what `recall` knows by path and inode is not looked at again."""
    stack = [_list_directory(top, b"", recall)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        if skip is not None and isinstance(entry, Entry) and skip(entry.path):
            continue
        yield entry
        if entry.kind in DIRECTORIES:
            stack.append(_list_directory(top, entry.path, recall))


def _list_directory(
    top: bytes, path: bytes, recall: Callable[[bytes, int], Saved | None] | None
) -> Iterator[Entry | Saved]:
    folder = os.path.join(top, path) if path else top
    prefix = path + b"/" if path else b""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=_entry_name, reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return  # vanished while we look
    except OSError as error:
        raise _unreadable(folder, error) from error
    while found:
        entry = found.pop()  # it keeps its status: one directory may hold all there is
        if recall is not None and (known := recall(prefix + entry.name, entry.inode())):
            yield known
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unreadable(entry.path, error) from error
        yield Entry(prefix + entry.name, status, find_kind(entry.path, status))


def _entry_name(entry: "os.DirEntry[bytes]") -> bytes:
    return entry.name


def _unreadable(path: bytes, error: OSError) -> RamosError:
    return RamosError("cannot read", os.fsdecode(path), error.strerror or error)


def find_kind(path: bytes, status: os.stat_result) -> int:
    """Directory, opaque directory, whiteout, socket, or anything else."""
    mode = status.st_mode
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        return OTHER
    if stat.S_ISDIR(mode):
        return OPAQUE if is_opaque(path) else DIRECTORY
    if stat.S_ISCHR(mode) and status.st_rdev == 0:
        return WHITEOUT
    return SOCKET if stat.S_ISSOCK(mode) else OTHER


def is_opaque(path: bytes) -> bool:
    """Whether a directory of an upper or a layer hides what is below it."""
    try:
        return os.getxattr(path, OPAQUE_XATTR, follow_symlinks=False) == b"y"
    except OSError:
        return False


def take_fingerprint(status: os.stat_result) -> bytes:
    """Eight bytes that differ when anything of an entry that matters differs."""
    mode = status.st_mode
    size = 0 if stat.S_ISDIR(mode) else status.st_size + status.st_rdev
    packed = STAT.pack(
        mode,
        status.st_uid,
        status.st_gid,
        size,
        status.st_ino,
        status.st_mtime_ns,
        status.st_ctime_ns,
        0 if stat.S_ISDIR(mode) else status.st_nlink,
    )
    return hashlib.blake2b(packed, digest_size=8).digest()


def order_key(path: bytes) -> bytes:
    """A key by which paths sort in the order of a walk: a directory right before its children."""
    return path.replace(b"/", b"\0")


def read_index(file: BinaryIO) -> Iterator[Saved]:
    """The entries of an index in order, decompressed as they are asked for."""
    inflate = zlib.decompressobj()
    rest = b""
    while chunk := file.read(READ_BYTES):
        rest += inflate.decompress(chunk)
        position = 0
        while len(rest) - position >= RECORD.size:
            length, kind, inode, fingerprint = RECORD.unpack_from(rest, position)
            end = position + RECORD.size + length
            if end > len(rest):
                break
            yield Saved(rest[position + RECORD.size : end], kind, inode, fingerprint)
            position = end
        rest = rest[position:]


class IndexWriter:
    """Writes an index, entry by entry, compressed as it goes."""

    def __init__(self, file: BinaryIO, racy_from_ns: int = 0, racy_until_ns: int = -1) -> None:
        self._file = file
        self._deflate = zlib.compressobj(1)
        self._pending: list[bytes] = []
        self._racy = (racy_from_ns, racy_until_ns)

    def add(self, entry: Entry, fingerprint: bytes) -> None:
        """Record an entry; one that could change unnoticed is recorded as changed."""
        low, high = self._racy
        if low <= entry.status.st_ctime_ns <= high:
            fingerprint = NEVER
        self.keep(Saved(entry.path, entry.kind, entry.status.st_ino, fingerprint))

    def keep(self, saved: Saved) -> None:
        """Record an entry as it was recorded before."""
        path = saved.path
        self._pending += (RECORD.pack(len(path), saved.kind, saved.inode, saved.fingerprint), path)
        if len(self._pending) > 2000:
            self.flush()

    def flush(self) -> None:
        """Hand what is pending to the file."""
        self._file.write(self._deflate.compress(b"".join(self._pending)))
        self._pending = []

    def finish(self) -> None:
        """Complete the stream."""
        self.flush()
        self._file.write(self._deflate.flush())


@dataclass
class _Cursor:
    """Where the comparison stands in the old index."""

    saved: Iterator[Saved]
    current: Saved | None = None

    def __post_init__(self) -> None:
        self.advance()

    def advance(self) -> None:
        self.current = next(self.saved, None)

    def take_before(self, key: bytes) -> Iterator[Saved]:
        """Entries of the index that the walk has passed: they are gone."""
        while self.current is not None and order_key(self.current.path) < key:
            yield self.current
            self.advance()

    def take(self, path: bytes) -> Saved | None:
        """The entry with this path, if the index has it."""
        if self.current is None or self.current.path != path:
            return None
        found = self.current
        self.advance()
        return found


class Scanner:
    """One pass over an upper: what changed since `saved`, and the index for the next time."""

    def __init__(
        self,
        top: bytes,
        excludes: Iterable[str],
        saved: Iterable[Saved] | None,
        writer: IndexWriter | None,
        changed: "set[int] | None" = None,
    ) -> None:
        self.top = top
        self.delta = Delta()
        self._is_excluded = compile_excludes(excludes)
        self._first = saved is None
        self._cursor = _Cursor(iter(saved or ()))
        self._writer = writer
        self._covered = b"\0"  # key prefix of a directory that is saved as a whole
        self._replaced = b"\0"  # key prefix of what needs no whiteouts of its own
        # The only inodes that can have changed since `saved`; None: any can.
        self._changed = changed

    def run(self) -> Delta:
        """Walk, compare, collect."""
        recall = None if self._changed is None else self._recall
        for entry in walk_unknown(self.top, self._skip, recall):
            if isinstance(entry, Entry):
                self._take(entry)
            elif self._writer is not None:
                self._writer.keep(entry)
        for saved in self._cursor.take_before(b"\xff" * 5000):
            self._take_gone(saved)
        if self._writer is not None:
            self._writer.finish()
        return self.delta

    def _recall(self, path: bytes, inode: int) -> Saved | None:
        """The record of an entry that is what it was; it leaves the old index."""
        assert self._changed is not None
        if inode in self._changed or order_key(path).startswith(self._covered):
            return None
        current = self._cursor.current
        if current is None or current.path != path:
            for saved in self._cursor.take_before(order_key(path)):
                self._take_gone(saved)
        current = self._cursor.current
        if current is None or current.path != path or current.inode != inode:
            return None
        return self._cursor.take(path)

    def _skip(self, path: bytes) -> bool:
        if not self._is_excluded(path):
            return False
        if self._first or order_key(path).startswith(self._covered):
            self.delta.excluded.append(path)
        return True

    def _take(self, entry: Entry) -> None:
        key = order_key(entry.path)
        for saved in self._cursor.take_before(key):
            self._take_gone(saved)
        old = self._cursor.take(entry.path)
        fingerprint = take_fingerprint(entry.status)
        if self._writer is not None:
            self._writer.add(entry, fingerprint)
        covered = key.startswith(self._covered)
        if old is not None and old.fingerprint == fingerprint and not covered:
            return
        self._count(entry)
        if entry.kind == SOCKET and old is not None and old.kind != SOCKET:
            self.delta.whiteouts += 1  # what was there before has to go
        if self._first or covered:
            return
        if entry.kind not in DIRECTORIES:
            self.delta.moves.append(entry.path)
            self._replaced = key + b"\0"
        elif old is None or old.kind not in DIRECTORIES or self._becomes_opaque(entry, old):
            self.delta.moves.append(entry.path)
            self._covered = self._replaced = key + b"\0"
        else:
            self.delta.folders.append(entry.path)

    @staticmethod
    def _becomes_opaque(entry: Entry, old: Saved) -> bool:
        return entry.kind == OPAQUE and old.kind != OPAQUE

    def _take_gone(self, saved: Saved) -> None:
        """A whiteout for what was saved and is no more, unless something covers it anyway."""
        key = order_key(saved.path)
        if key.startswith(self._replaced) or self._is_excluded(saved.path):
            return
        self._replaced = key + b"\0"
        self.delta.gone.append(saved.path)
        self.delta.whiteouts += 1

    def _count(self, entry: Entry) -> None:
        delta, status = self.delta, entry.status
        if entry.kind in DIRECTORIES:
            delta.directories += 1
        elif entry.kind == WHITEOUT:
            delta.whiteouts += 1
            return
        elif entry.kind == SOCKET:
            delta.sockets.append(entry.path)
            return
        else:
            delta.files += 1
            if stat.S_ISREG(status.st_mode):
                delta.add_size(status.st_size)
            delta.stored_bytes += 512 * status.st_blocks
        if not 0 <= status.st_mtime_ns // 10**9 <= MAX_TIME_SECONDS:
            delta.clamped.append(entry.path)
        if not stat.S_ISLNK(status.st_mode) and has_acl(os.path.join(self.top, entry.path)):
            delta.acls.append(entry.path)


def has_acl(path: bytes) -> bool:
    """Whether an entry carries a POSIX ACL."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return False
    return any(name in ACL_XATTRS for name in names)
