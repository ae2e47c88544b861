"""The cpio archive that a kernel unpacks as its initramfs.

Owns: the newc format, written so that equal contents give equal bytes. Refuses: files of the
machine (bytes in, bytes out). Invariants: entries are sorted by path, every folder comes before
what is in it, and there are no times but the one asked for.
"""

import stat
from dataclasses import dataclass, field

MAGIC = "070701"
ALIGNMENT = 4
BLOCK_BYTES = 512


@dataclass(frozen=True)
class CpioEntry:
    """One file, folder, symlink (`data` is its target) or device node."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


@dataclass
class Archive:
    """What will be in the archive, by path without a leading slash."""

    entries: dict[str, CpioEntry] = field(default_factory=dict)

    def add_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Put a file there, and the folders above it."""
        self._add(path, CpioEntry(stat.S_IFREG | mode, data))

    def add_symlink(self, path: str, target: str) -> None:
        """Put a symlink there."""
        self._add(path, CpioEntry(stat.S_IFLNK | 0o777, target.encode()))

    def add_folder(self, path: str, mode: int = 0o755) -> None:
        """Put an empty folder there."""
        self._add(path, CpioEntry(stat.S_IFDIR | mode))

    def add_character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Put a device node there: writing it into an archive needs no rights."""
        self._add(path, CpioEntry(stat.S_IFCHR | mode, device=(major, minor)))

    def _add(self, path: str, entry: CpioEntry) -> None:
        parent = path.rpartition("/")[0]
        if parent and parent not in self.entries:
            self.add_folder(parent)
        self.entries[path] = entry

    def render(self, mtime: int = 0) -> bytes:
        """The bytes of the archive."""
        chunks = []
        size = 0
        named = [*sorted(self.entries.items()), ("TRAILER!!!", CpioEntry(0))]
        for inode, (path, entry) in enumerate(named, 1):
            chunk = _render_entry(inode if entry.mode else 0, path, entry, mtime)
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks) + b"\0" * (-size % BLOCK_BYTES)


def _render_entry(inode: int, path: str, entry: CpioEntry, mtime: int) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    time = mtime if entry.mode else 0
    numbers = [inode, entry.mode, 0, 0, links, time, len(entry.data)]
    numbers += [0, 0, *entry.device, len(name), 0]
    head = MAGIC.encode() + b"".join(b"%08X" % number for number in numbers) + name
    return _pad(head) + _pad(entry.data)


def _pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % ALIGNMENT)
