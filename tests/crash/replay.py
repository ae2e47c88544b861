"""Making the disk of a state.

Owns: putting a base image and the surviving writes together, sparsely. Refuses: changing the base.
"""

import os
from pathlib import Path

from tests.crash.log import WriteLog
from tests.crash.states import State


def materialize(log: WriteLog, state: State, path: Path) -> None:
    """Write the disk that the state leaves to `path`, in place of what was there."""
    copy_sparse(log.base, path)
    descriptor = os.open(path, os.O_WRONLY)
    try:
        for at in range(state.durable):
            record = log.records[at]
            if record.kind == "write":
                os.pwrite(descriptor, record.data, record.offset)
        for piece in state.pieces:
            record = log.records[piece.record]
            for start, end in piece.parts or ((0, len(record.data)),):
                os.pwrite(descriptor, record.data[start:end], record.offset + start)
    finally:
        os.close(descriptor)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file, holes as holes."""
    size = source.stat().st_size
    reader = os.open(source, os.O_RDONLY)
    writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.truncate(writer, size)
        end = 0
        while (start := _seek(reader, end, os.SEEK_DATA)) is not None:
            end = _seek(reader, start, os.SEEK_HOLE) or size
            os.lseek(writer, start, os.SEEK_SET)
            while start < end:
                start += os.sendfile(writer, reader, start, end - start)
    finally:
        os.close(reader)
        os.close(writer)


def _seek(descriptor: int, start: int, whence: int) -> int | None:
    try:
        return os.lseek(descriptor, start, whence)
    except OSError:
        return None
