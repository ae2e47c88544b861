"""What keeps an entry out of a layer.

Owns: the limits of squashfs, of mksquashfs and of our own patience, and the reasons in words.
Refuses: giving up a save for one entry; whoever asks leaves the entry out, and says so. Invariant:
what no obstacle is found for, a layer can hold, and holding it takes bounded time.

Files are weighed by the bytes that reading them gives, holes and shared extents included, for
mksquashfs reads all of them: an owner may have as many as the upper is large, and some holes more.
So nobody can make a save read for ever, and nobody uses up what others may have.
"""

import os
import stat

from ramos.errors import find_reason
from ramos.sizes import format_size

MAX_PATH_BYTES = 3584
MAX_HOLES_BYTES = 16 << 30
# Squashfs has 65,536 numbers for users and groups together, and layers are merged.
MAX_OWNERS = 8192
BLOCK_BYTES = 512
# What squashfs has room for; ACLs travel beside a layer, and what a file system makes up itself
# (btrfs.compression) means nothing in one.
HELD_XATTRS = ("user.", "trusted.", "security.")


class Obstacles:
    """The limits of one save, as far as they are used up."""

    def __init__(self, top: bytes) -> None:
        space = os.statvfs(top)
        self._readable_bytes = space.f_blocks * space.f_frsize + MAX_HOLES_BYTES
        self._read_bytes: dict[int, int] = {}
        self._links: set[int] = set()
        self._owners: set[int] = set()

    def find(self, full: bytes, status: os.stat_result) -> str:
        """Why an entry cannot be saved; nothing if it can be."""
        try:
            os.listxattr(full, follow_symlinks=False)
        except FileNotFoundError:
            pass
        except OSError as error:
            return f"its extended attributes cannot be read: {find_reason(error)}"
        owners = self._owners | {status.st_uid, status.st_gid}
        if len(owners) > MAX_OWNERS:
            return f"a layer holds the files of {MAX_OWNERS} users and groups at most"
        if stat.S_ISREG(status.st_mode) and (reason := self._weigh(status)):
            return reason
        self._owners = owners
        return ""

    def _weigh(self, status: os.stat_result) -> str:
        if status.st_ino in self._links:
            return ""
        read = self._read_bytes.get(status.st_uid, 0) + status.st_size
        if read > self._readable_bytes:
            if status.st_size > weigh_data(status):
                size = format_size(status.st_size)
                return f"it is {size} long, most of it holes, too much to read"
            return f"with it, user {status.st_uid} has more bytes in files than a save reads"
        self._read_bytes[status.st_uid] = read
        if status.st_nlink > 1:
            self._links.add(status.st_ino)
        return ""


def weigh_data(status: os.stat_result) -> int:
    """The bytes of a file that are not holes."""
    return min(status.st_size, status.st_blocks * BLOCK_BYTES)
