"""What was saved of an upper, as a file: one record an entry, in the order of the walk.

Owns: the format, in both directions. Refuses: looking at the entries themselves. Invariant: what is
read is what was written, in that order.

The index is a zlib stream of records: length of the path (2 bytes), kind (1), inode (8),
fingerprint (8), path. The directory itself has the empty path. A fingerprint of zeros matches
nothing: so are entries recorded whose ctime is not older than the snapshot by the clock that ctimes
are made with, for they could change again unnoticed. So is, with inode 0, what an earlier save has
and this one had to leave out.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

NEVER = bytes(8)
RECORD = struct.Struct("<HBQ8s")
READ_BYTES = 1 << 16


class Saved(NamedTuple):
    """One entry of an index."""

    path: bytes
    kind: int
    inode: int
    fingerprint: bytes


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

    def add(self, saved: Saved, ctime_ns: int) -> None:
        """Record an entry; one that could change unnoticed is recorded as changed."""
        low, high = self._racy
        self.keep(saved._replace(fingerprint=NEVER) if low <= ctime_ns <= high else saved)

    def keep(self, saved: Saved) -> None:
        """Record an entry as it was recorded before."""
        path = saved.path
        self._pending += (RECORD.pack(len(path), saved.kind, saved.inode, saved.fingerprint), path)
        if len(self._pending) > 2000:
            self.flush()

    def keep_unsaved(self, saved: Saved) -> None:
        """Record what an earlier save has; nothing is known to be like it."""
        self.keep(saved._replace(inode=0, fingerprint=NEVER))

    def flush(self) -> None:
        """Hand what is pending to the file."""
        self._file.write(self._deflate.compress(b"".join(self._pending)))
        self._pending = []

    def finish(self) -> None:
        """Complete the stream."""
        self.flush()
        self._file.write(self._deflate.flush())


def order_key(path: bytes) -> bytes:
    """A key by which paths sort in the order of a walk: a directory right before its children."""
    return path.replace(b"/", b"\0")


@dataclass
class Cursor:
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

    def take_below(self, key: bytes) -> Iterator[Saved]:
        """The entry with this key, if it is next, and everything below it."""
        while self.current is not None:
            found = order_key(self.current.path)
            if found != key and not found.startswith(key + b"\0"):
                return
            yield self.current
            self.advance()

    def is_at(self, path: bytes, fingerprint: bytes) -> bool:
        """Whether this entry is next, and is what it was."""
        current = self.current
        return current is not None and current.path == path and current.fingerprint == fingerprint

    def take(self, path: bytes) -> Saved | None:
        """The entry with this path, if the index has it."""
        if self.current is None or self.current.path != path:
            return None
        found = self.current
        self.advance()
        return found
