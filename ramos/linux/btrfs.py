"""The few things asked of btrfs: snapshots, which inodes changed since one was taken, its size.

Owns: the ioctls. Refuses: running the btrfs program. Invariant: `list_changed` misses nothing: the
inode of whatever changed in a subvolume after transaction N carries a transaction above N.
"""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from ramos.errors import RamosError

SUBVOLUME_ROOT_INODE = 256
# <linux/btrfs.h>, type 0x94: RESIZE (3), SYNC (8), SNAP_DESTROY (15),
# SNAP_CREATE_V2 (23), TREE_SEARCH_V2 (17), GET_SUBVOL_INFO (60).
RESIZE = 0x50009403
SYNC = 0x9408
SNAP_CREATE_V2 = 0x50009417
SNAP_DESTROY = 0x5000940F
TREE_SEARCH_V2 = 0xC0709411
GET_SUBVOL_INFO = 0x81F8943C
SUBVOL_INFO_BYTES = 504
# treeid, name[256], parent_id, dirid, generation, flags, uuid[16], parent_uuid[16],
# received_uuid[16], ctransid, otransid
OTRANSID_OFFSET = 8 + 256 + 4 * 8 + 3 * 16 + 8
SEARCH_KEY = struct.Struct("<7Q4I4Q")
SEARCH_HEADER = struct.Struct("<QQQII")
BUFFER_BYTES = 1 << 20
INODE_ITEM = 1
TRANSID_OFFSET = 8
MAX_U64 = (1 << 64) - 1


def is_subvolume(path: Path, filesystem: str) -> bool:
    """Whether a mount point is the top of a btrfs subvolume."""
    return filesystem == "btrfs" and path.stat().st_ino == SUBVOLUME_ROOT_INODE


def create_snapshot(source: Path, target: Path) -> None:
    """A writable snapshot of a subvolume."""
    with _opened(source) as top, _opened(target.parent) as parent:
        name = os.fsencode(target.name)
        argument = bytearray(struct.pack("<qQQ32x4040s", top, 0, 0, name))
        try:
            fcntl.ioctl(parent, SNAP_CREATE_V2, argument)
        except OSError as error:
            state = "Nothing was saved"
            raise RamosError("cannot take a snapshot of", source, error, state) from error


def destroy_snapshot(folder: Path) -> None:
    """Remove a snapshot with all in it; one that is gone is fine.

    The kernel would begin with it up to half a minute later, and what is deleted meanwhile would
    give no room.
    """
    with _opened(folder.parent) as parent, contextlib.suppress(FileNotFoundError):
        argument = bytearray(struct.pack("<q4088s", 0, os.fsencode(folder.name)))
        fcntl.ioctl(parent, SNAP_DESTROY, argument)
        fcntl.ioctl(parent, SYNC)


def resize(mounted: Path, size: str) -> None:
    """Use so many bytes of the one device, or `max`."""
    with _opened(mounted) as top:
        argument = bytearray(struct.pack("<q4088s", 0, f"1:{size}".encode()))
        fcntl.ioctl(top, RESIZE, argument)


def shrink(mounted: Path, size_bytes: int) -> bool:
    """Use no more of the device; False where what lies beyond has no other place yet.

    Below 256 MiB the kernel makes none smaller: that counts as done.
    """
    try:
        resize(mounted, str(size_bytes))
    except OSError as error:
        return error.errno != errno.ENOSPC
    return True


def read_birth(snapshot: Path) -> int:
    """The transaction that made a snapshot; 0 where the kernel does not tell."""
    argument = bytearray(SUBVOL_INFO_BYTES)
    with _opened(snapshot) as descriptor:
        try:
            fcntl.ioctl(descriptor, GET_SUBVOL_INFO, argument)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EPERM):
                return 0
            raise
    return int(struct.unpack_from("<Q", argument, OTRANSID_OFFSET)[0])


def list_changed(snapshot: Path, since: int) -> set[int]:
    """The inodes of a subvolume that changed in transactions after `since`."""
    with _opened(snapshot) as descriptor:
        return set(_search_inodes(descriptor, since + 1))


def _search_inodes(descriptor: int, since: int) -> Iterator[int]:
    """The kernel passes over whole branches of the tree that are older than `since`."""
    buffer = bytearray(SEARCH_KEY.size + 8 + BUFFER_BYTES)
    first, kind, offset = 0, 0, 0
    while True:
        limits = (0, first, MAX_U64, offset, MAX_U64, since, MAX_U64, kind, 255, 1 << 31, 0)
        SEARCH_KEY.pack_into(buffer, 0, *limits, 0, 0, 0, 0)
        struct.pack_into("<Q", buffer, SEARCH_KEY.size, BUFFER_BYTES)
        fcntl.ioctl(descriptor, TREE_SEARCH_V2, buffer)
        count = SEARCH_KEY.unpack_from(buffer)[9]
        if count == 0:
            return
        position = SEARCH_KEY.size + 8
        for _ in range(count):
            _, first, offset, kind, length = SEARCH_HEADER.unpack_from(buffer, position)
            position += SEARCH_HEADER.size
            if kind == INODE_ITEM:
                (transid,) = struct.unpack_from("<Q", buffer, position + TRANSID_OFFSET)
                if transid >= since:
                    yield first
            position += length
        first, kind, offset = _next_key(first, kind, offset)


def _next_key(first: int, kind: int, offset: int) -> tuple[int, int, int]:
    if offset < MAX_U64:
        return first, kind, offset + 1
    return (first, kind + 1, 0) if kind < 255 else (first + 1, 0, 0)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
