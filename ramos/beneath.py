"""Reaching entries of trees in which users can rename things: by descriptors, no link followed.

Owns: opening what lies below an open directory, and doing to an open entry what takes a path.
Refuses: links on the way, the last name included, and `..`. Invariant: what is opened lies below
the directory it began in, whatever others do to the names meanwhile.
"""

import contextlib
import errno
import os
from collections.abc import Iterator

ENTRY_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER_FLAGS = ENTRY_FLAGS | os.O_DIRECTORY


@contextlib.contextmanager
def open_top(path: "bytes | os.PathLike[str]") -> Iterator[int]:
    """A directory that the system alone can move, as the start of a way."""
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_entry(top: int, path: bytes) -> Iterator[int]:
    """A handle of an entry below a directory, of any type; the empty path is the directory."""
    names = path.split(b"/") if path else []
    if any(name in (b"", b".", b"..") for name in names):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    descriptor = os.open(b".", FOLDER_FLAGS, dir_fd=top)
    try:
        for left, name in zip(range(len(names) - 1, -1, -1), names, strict=True):
            deeper = os.open(name, FOLDER_FLAGS if left else ENTRY_FLAGS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_folder_of(top: int, path: bytes) -> Iterator[tuple[int, bytes]]:
    """The directory that an entry lies in, and its name there."""
    folder, _, name = path.rpartition(b"/")
    with open_entry(top, folder) as descriptor:
        yield descriptor, name


def name_handle(descriptor: int) -> bytes:
    """A path that leads to the open entry itself, for calls that take no handle."""
    return b"/proc/self/fd/%d" % descriptor
