"""The write log: what reached the stick, in order.

Owns: the records and their file format. Refuses: guessing; a record that is cut short (the server
was killed while writing it) never reached the stick. Invariant: a flush record stands after every
write that the flush made durable.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

HEADER = struct.Struct("<BQI")
WRITE, FLUSH, MARK = 1, 2, 3

Kind = Literal["write", "flush", "mark"]
KINDS: dict[int, Kind] = {WRITE: "write", FLUSH: "flush", MARK: "mark"}


@dataclass(frozen=True)
class Record:
    """One thing that happened to the stick; a mark is a note of the workload, no write."""

    kind: Kind
    offset: int = 0
    data: bytes = b""

    @property
    def text(self) -> str:
        """What a mark says."""
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True)
class WriteLog:
    """A base image and all that was done to it."""

    base: Path
    records: tuple[Record, ...]

    @property
    def flushes(self) -> list[int]:
        """The places of the flushes in the log."""
        return [at for at, record in enumerate(self.records) if record.kind == "flush"]

    def without_flushes(self) -> "WriteLog":
        """The same writes, as if nothing had ever been flushed: the negative control."""
        return WriteLog(self.base, tuple(r for r in self.records if r.kind != "flush"))


def append_record(file: IO[bytes], kind: int, offset: int, data: bytes | memoryview) -> None:
    """Add one record to an open log file."""
    file.write(HEADER.pack(kind, offset, len(data)))
    file.write(data)


def read_log(base: Path, path: Path) -> WriteLog:
    """Read a log file back."""
    data = path.read_bytes()
    records: list[Record] = []
    at = 0
    while at + HEADER.size <= len(data):
        kind, offset, length = HEADER.unpack_from(data, at)
        at += HEADER.size
        if at + length > len(data):
            break
        records.append(Record(KINDS[kind], offset, data[at : at + length]))
        at += length
    return WriteLog(base, tuple(records))
