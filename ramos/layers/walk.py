"""Walking the upper, and finding what changed since it was last saved in this boot.

Owns: the walk, the comparison with the index of what was saved, what is left out because no layer
can hold it. Refuses: changing anything it walks, and giving up all for one entry.
Invariants: entries come in one order, always (depth first, names by their bytes), so that a walk
and an index are compared in one pass with little memory; a change is `!=` on type, mode, owner,
size, mtime, ctime and inode, never "newer than"; an entry that vanishes while we look is absent.
"""

import hashlib
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ramos.config import SaveConfig, compile_patterns
from ramos.errors import RamosError, escape, find_reason
from ramos.layers.index import Cursor, IndexWriter, Saved, order_key
from ramos.layers.obstacles import MAX_PATH_BYTES, Obstacles, weigh_data

OTHER, DIRECTORY, OPAQUE, WHITEOUT, SOCKET = range(5)
DIRECTORIES = (DIRECTORY, OPAQUE)
OPAQUE_XATTR = "trusted.overlay.opaque"
ACL_XATTRS = ("system.posix_acl_access", "system.posix_acl_default")
STAT = struct.Struct("<IIIQQQQQ")
SHOWN = 20
MASK_64 = (1 << 64) - 1
MAX_TIME_SECONDS = (1 << 32) - 1


class Entry(NamedTuple):
    """One entry of a tree: its path below the top, its lstat and its kind."""

    path: bytes
    status: os.stat_result
    kind: int


class LeftOut(NamedTuple):
    """One entry that cannot be saved, with all that is below it, and why."""

    path: bytes
    reason: str


Recall = Callable[[bytes, int], Saved | None]


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
    # Of the files and deletions, those that are the system's; the other directories.
    system: int = 0
    parents: list[bytes] = field(default_factory=list)
    largest: tuple[int, bytes] = (0, b"")
    stored_bytes: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    same_size_pairs: int = 0
    sockets: list[bytes] = field(default_factory=list)
    bare_sockets: set[bytes] = field(default_factory=set)
    clamped: list[bytes] = field(default_factory=list)
    excluded: list[bytes] = field(default_factory=list)
    acls: list[bytes] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unread: list[LeftOut] = field(default_factory=list)

    def add_file(self, status: os.stat_result) -> None:
        """Count a file's data, and how many files before it were just as long."""
        before = self.sizes.get(status.st_size, 0)
        self.sizes[status.st_size] = before + 1
        self.same_size_pairs += before
        self.size_bytes += weigh_data(status)

    def name_left_out(self) -> tuple[str, ...]:
        """What could not be saved, as far as anyone reads on."""
        all_of_them = [*self.left_out, *self.unread]
        names = [f"{escape(os.fsdecode(b'/' + path))}: {why}" for path, why in all_of_them[:SHOWN]]
        more = len(all_of_them) - len(names)
        return (*names, f"and {more} more") if more else tuple(names)

    @property
    def mine(self) -> int:
        """The files and deletions that are not the system's own."""
        return self.files + self.whiteouts - self.system

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to save."""
        return not (self.files or self.directories or self.whiteouts)


def walk(top: bytes, skip: Callable[[bytes], bool] | None = None) -> Iterator[Entry]:
    """All entries below a directory in the one order; a skipped directory is not entered."""
    for entry in walk_unknown(top, skip, None):
        if isinstance(entry, LeftOut):
            raise RamosError("cannot read", os.fsdecode(entry.path), entry.reason)
        if isinstance(entry, Entry):
            yield entry


def walk_unknown(
    top: bytes, skip: Callable[[bytes], bool] | None, recall: Recall | None
) -> Iterator[Entry | Saved | LeftOut]:
    """The walk; what `recall` knows by path and inode is not looked at again."""
    stack = [_look_at(b"", _read_directory(top), recall)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        if skip is not None and not isinstance(entry, Saved) and skip(entry.path):
            continue
        if isinstance(entry, LeftOut) or entry.kind not in DIRECTORIES:
            yield entry
            continue
        try:
            found = _read_directory(os.path.join(top, entry.path))
        except OSError as error:
            yield LeftOut(entry.path, find_reason(error))
            continue
        yield entry
        stack.append(_look_at(entry.path, found, recall))


def _read_directory(folder: bytes) -> "list[os.DirEntry[bytes]]":
    """What is in a directory, last name first; nothing if it vanished while we look."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name, reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _look_at(
    path: bytes, found: "list[os.DirEntry[bytes]]", recall: Recall | None
) -> Iterator[Entry | Saved | LeftOut]:
    prefix = path + b"/" if path else b""
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
            yield LeftOut(prefix + entry.name, find_reason(error))
            continue
        yield Entry(prefix + entry.name, status, find_kind(entry.path, status))


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
    """Eight bytes that differ when anything of an entry that matters differs.

    All whiteouts are the same: overlayfs makes them links of one, which changes with each.
    """
    mode = status.st_mode
    if stat.S_ISCHR(mode) and status.st_rdev == 0:
        return bytes(8)
    size = 0 if stat.S_ISDIR(mode) else status.st_size + status.st_rdev
    packed = STAT.pack(
        mode,
        status.st_uid,
        status.st_gid,
        size,
        status.st_ino,
        status.st_mtime_ns & MASK_64,  # before 1677 or after 2262 it is longer than that
        status.st_ctime_ns & MASK_64,
        0 if stat.S_ISDIR(mode) else status.st_nlink,
    )
    return hashlib.blake2b(packed, digest_size=8).digest()


def show_folder(status: os.stat_result) -> tuple[int, ...]:
    """What a layer keeps of its top directory."""
    seconds = min(max(status.st_mtime_ns // 10**9, 0), MAX_TIME_SECONDS)
    return status.st_mode, status.st_uid, status.st_gid, seconds


class Scanner:
    """One pass over an upper: what changed since `saved`, and the index for the next time."""

    def __init__(
        self,
        top: bytes,
        config: SaveConfig,
        saved: Iterable[Saved] | None,
        writer: IndexWriter | None,
        changed: "set[int] | None" = None,
        below: os.stat_result | None = None,
    ) -> None:
        self.top = top
        self._obstacles = Obstacles(top)
        # What the directory itself looked like when there was nothing in it; None: nobody knows.
        self._below = below
        self.delta = Delta()
        self._is_excluded = compile_patterns(config.exclude)
        self._is_systems = compile_patterns(config.system)
        self._first = saved is None
        self._cursor = Cursor(iter(saved or ()))
        self._writer = writer
        self._covered = b"\0"  # key prefix of a directory that is saved as a whole
        self._replaced = b"\0"  # key prefix of what needs no whiteouts of its own
        self._dropped = b"/"  # what is below the last directory that was left out
        # The only inodes that can have changed since `saved`; None: any can.
        self._changed = changed

    def run(self) -> Delta:
        """Walk, compare, collect."""
        recall = None if self._changed is None else self._recall
        is_changed = self._take_top()
        for entry in walk_unknown(self.top, self._skip, recall):
            if isinstance(entry, Entry):
                self._take(entry)
            elif isinstance(entry, LeftOut):
                self._leave_out(entry.path, entry.reason)
            elif self._writer is not None:
                self._writer.keep(entry)
        for saved in self._cursor.take_before(b"\xff" * 5000):
            self._take_gone(saved)
        if self._writer is not None:
            self._writer.finish()
        if is_changed:
            self.delta.parents.append(b"")
            self.delta.directories += self.delta.is_empty
        return self.delta

    def _take_top(self) -> bool:
        """Whether the top itself has changed; every layer holds it, so it is in no list."""
        status = os.lstat(self.top)
        old, fingerprint = self._cursor.take(b""), take_fingerprint(status)
        if self._writer is not None:
            saved = Saved(b"", DIRECTORY, status.st_ino, fingerprint)
            self._writer.add(saved, status.st_ctime_ns)
        if not self._first:
            return old is None or old.fingerprint != fingerprint
        below = self._below
        return below is not None and show_folder(status) != show_folder(below)

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
        if path.startswith(self._dropped):
            return True
        if self._is_excluded(path):
            self._exclude(path)
            return True
        if len(path) > MAX_PATH_BYTES:
            self._leave_out(path, f"its path is longer than {MAX_PATH_BYTES} bytes")
            return True
        return False

    def _exclude(self, path: bytes) -> None:
        if self._first or order_key(path).startswith(self._covered):
            self.delta.excluded.append(path)

    def _leave_out(self, path: bytes, reason: str) -> None:
        """It stays as it was saved last, if it was; and that has to be known once it is deleted."""
        self._dropped = path + b"/"
        self.delta.left_out.append(LeftOut(path, reason))
        self._exclude(path)
        key = order_key(path)
        for saved in self._cursor.take_before(key):
            self._take_gone(saved)
        for saved in self._cursor.take_below(key):
            if self._writer is not None:
                self._writer.keep_unsaved(saved)

    def _take(self, entry: Entry) -> None:
        key = order_key(entry.path)
        for saved in self._cursor.take_before(key):
            self._take_gone(saved)
        fingerprint = take_fingerprint(entry.status)
        covered = key.startswith(self._covered)
        is_known = self._cursor.is_at(entry.path, fingerprint) and not covered
        if not is_known and (reason := self._find_obstacle(entry)):
            self._leave_out(entry.path, reason)
            return
        old = self._cursor.take(entry.path)
        if self._writer is not None:
            saved = Saved(entry.path, entry.kind, entry.status.st_ino, fingerprint)
            self._writer.add(saved, entry.status.st_ctime_ns)
        if is_known:
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

    def _find_obstacle(self, entry: Entry) -> str:
        if entry.kind in (WHITEOUT, SOCKET):
            return ""
        return self._obstacles.find(os.path.join(self.top, entry.path), entry.status)

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
        self.delta.system += self._is_systems(saved.path)

    def _count(self, entry: Entry) -> None:
        delta, status = self.delta, entry.status
        if entry.kind in DIRECTORIES:
            delta.directories += 1
            if not (self._is_systems(entry.path) or self._is_systems(entry.path + b"/")):
                delta.parents.append(entry.path)
        elif entry.kind == WHITEOUT:
            delta.whiteouts += 1
            delta.system += self._is_systems(entry.path)
            return
        elif entry.kind == SOCKET:
            delta.sockets.append(entry.path)
            return
        else:
            delta.files += 1
            delta.system += self._is_systems(entry.path)
            if stat.S_ISREG(status.st_mode):
                delta.add_file(status)
                delta.largest = max(delta.largest, (weigh_data(status), entry.path))
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
