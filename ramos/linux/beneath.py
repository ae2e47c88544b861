"""Reaching entries of trees in which users can rename things: by descriptors, no link followed.

Owns: opening what lies below an open directory, a place to work in beside others' files, and where
a name leads in a tree that is nobody's root yet.
Refuses: links that others than root could change, the last name included, and `..` among them.
Invariant: what is opened lies where it was looked for, whatever others do to the names meanwhile.
"""

import collections
import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from ramos.errors import RamosError

ENTRY_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER_FLAGS = ENTRY_FLAGS | os.O_DIRECTORY
READ_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MAX_LINKS = 40


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


@contextlib.contextmanager
def open_folder(path: "bytes | os.PathLike[str]") -> Iterator[int]:
    """A directory by its absolute path.

    A link on the way is followed only where nobody but root can change it, or move the directory
    that it lies in; so is `..`.
    """
    names, left, is_safe = collections.deque(os.fsencode(path).split(b"/")), MAX_LINKS, True
    descriptor = os.open(b"/", FOLDER_FLAGS)
    try:
        while names:
            name = names.popleft()
            if name in (b"", b"."):
                continue
            is_safe = is_safe and _is_roots_alone(os.fstat(descriptor))
            target = _read_link(descriptor, name)
            if target is not None or name == b"..":
                left -= 1
                if not is_safe or left < 0:
                    raise OSError(errno.ELOOP, "a link is on the way, and is not followed", path)
            if target is None:
                deeper = os.open(name, FOLDER_FLAGS, dir_fd=descriptor)
            else:
                names.extendleft(reversed(target.split(b"/")))
                start = b"/" if target.startswith(b"/") else b"."
                deeper = os.open(start, FOLDER_FLAGS, dir_fd=descriptor)
                is_safe = True
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)


def _is_roots_alone(status: os.stat_result) -> bool:
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read_link(folder: int, name: bytes) -> bytes | None:
    """Where a link leads; None for anything else."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


def walk_folders(
    top: "bytes | os.PathLike[str]",
) -> Iterator[tuple[int, bytes, list[os.stat_result]]]:
    """Every directory of a tree, parents first: its depth, its name, what lies in it and is none.

    However deep: one descriptor is open at a time, and the way back is `..`. The walk ends where
    somebody has moved away what it stands in.
    """
    here, name = os.open(top, READ_FLAGS), b""
    levels: list[tuple[os.stat_result, list[bytes]]] = []
    try:
        while True:
            statuses, folders = _list_open(here)
            yield len(levels), name, statuses
            levels.append((os.fstat(here), folders))
            deeper = None
            while deeper is None:
                while not levels[-1][1]:
                    levels.pop()
                    if not levels:
                        return
                    here = _exchange(here, os.open(b"..", READ_FLAGS, dir_fd=here))
                    if not os.path.samestat(os.fstat(here), levels[-1][0]):
                        return
                name = levels[-1][1].pop()
                with contextlib.suppress(OSError):  # gone, or not to be read
                    deeper = os.open(name, READ_FLAGS, dir_fd=here)
            here = _exchange(here, deeper)
    finally:
        os.close(here)


def _exchange(old: int, new: int) -> int:
    os.close(old)
    return new


def _list_open(folder: int) -> tuple[list[os.stat_result], list[bytes]]:
    """What lies in an open directory: the status of all but directories, and the names of those."""
    statuses, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(os.fsencode(entry.name))
                else:
                    statuses.append(entry.stat(follow_symlinks=False))
    return statuses, sorted(folders, reverse=True)


@contextlib.contextmanager
def make_workplace(folder: int) -> Iterator[int]:
    """A new directory that nobody else gets into, in one that may be another user's; what is left
    in it is gone with the block."""
    name = f".ramos-{os.getpid()}-{secrets.token_hex(4)}"
    os.mkdir(name, 0o700, dir_fd=folder)
    try:
        with open_entry(folder, os.fsencode(name)) as place:
            _take_over(place, os.fstat(folder).st_dev)
            try:
                yield place
            finally:
                for left in os.listdir(name_handle(place)):
                    remove_entry(place, left)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=folder)


def _take_over(place: int, device: int) -> None:
    """It may have been put in the place of the one we made: from here on it is ours, and empty."""
    handle = name_handle(place)
    with contextlib.suppress(OSError):  # FAT and the like know no owners, and no links either
        os.chown(handle, os.geteuid(), os.getegid())
        for name in os.listxattr(handle):
            if name.startswith("system.posix_acl_"):  # they would be inherited
                os.removexattr(handle, name)
        Path(os.fsdecode(handle)).chmod(0o700)
    if os.fstat(place).st_dev != device or os.listdir(handle):
        raise OSError(errno.EBUSY, "somebody else is at work there")


def remove_entry(folder: int, name: bytes) -> None:
    """Remove what has a name in a directory, with all that is in it."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        shutil.rmtree(b"%s/%s" % (name_handle(folder), name))


def resolve_inside(root: Path, name: str) -> Path:
    """Where a name leads when `root` is taken for `/`: never outside, whatever links there are.

    For trees that nobody changes meanwhile.
    """
    todo = [part for part in name.split("/") if part not in ("", ".")]
    done: list[str] = []
    followed = 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            del done[-1:]
            continue
        path = root.joinpath(*done, part)
        try:
            followable = path.is_symlink()
        except OSError as error:  # a link may name what no directory can hold
            raise RamosError("cannot read", name, error) from error
        if not followable:
            done.append(part)
            continue
        followed += 1
        if followed > MAX_LINKS:
            raise RamosError("cannot read", name, "its links go round in circles")
        target = os.readlink(path)  # noqa: PTH115  # a Path would tidy it up
        done = [] if target.startswith("/") else done
        todo[:0] = [word for word in target.split("/") if word not in ("", ".")]
    return root.joinpath(*done)
