"""fs-verity: a digest that the kernel checks block by block as a file is read.

Owns: the digest of a file (sha256, blocks of 4 KiB, no salt: what `fsverity digest` prints), and
sealing and asking by ioctl. Refuses: deciding what a missing or a different digest means; that is
the caller's business. Invariant: `MerkleHasher` gives the same digest whatever the sizes of the
pieces it is fed.
"""

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RamosError
from ramos.linux import fs

BLOCK_BYTES = 4096
HASH_BYTES = 32
SHA256_ALGORITHM = 1
# <linux/fsverity.h>: _IOW('f', 133, 128 bytes) and _IOWR('f', 134, 4 bytes).
ENABLE_IOCTL = 0x40806685
MEASURE_IOCTL = 0xC0046686
# What the ioctls answer where the kernel or the file system has no fs-verity.
UNSUPPORTED = (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL)
KERNEL_FEATURE = Path("/sys/fs/ext4/features/verity")


@dataclass(frozen=True)
class FileDigests:
    """All that a generation file says about a stored file's content."""

    size_bytes: int
    sha256: str
    verity: str


class MerkleHasher:
    """The fs-verity digest of a stream of bytes, in one pass and with a few blocks of memory."""

    def __init__(self) -> None:
        self._size_bytes = 0
        self._rest = b""
        # One list of pending hashes a level, lowest first.
        self._levels: list[bytearray] = [bytearray()]

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the file."""
        self._size_bytes += len(data)
        if self._rest:
            missing = BLOCK_BYTES - len(self._rest)
            self._rest += bytes(data[:missing])
            data = data[missing:]
            if len(self._rest) < BLOCK_BYTES:
                return
            self._add_hash(0, hashlib.sha256(self._rest).digest())
            self._rest = b""
        view = memoryview(data)
        whole = len(view) - len(view) % BLOCK_BYTES
        for start in range(0, whole, BLOCK_BYTES):
            self._add_hash(0, hashlib.sha256(view[start : start + BLOCK_BYTES]).digest())
        self._rest = bytes(view[whole:])

    def _add_hash(self, level: int, value: bytes) -> None:
        if level == len(self._levels):
            self._levels.append(bytearray())
        pending = self._levels[level]
        # A full block of hashes goes up only when one more arrives: the last block of the top
        # level is the root's own block, full or not.
        if len(pending) == BLOCK_BYTES:
            self._add_hash(level + 1, hashlib.sha256(pending).digest())
            pending.clear()
        pending += value

    def hexdigest(self) -> str:
        """The digest of all that was taken; the hasher cannot be fed any more."""
        if self._rest:
            self._add_hash(0, _hash_block(self._rest))
            self._rest = b""
        level = 0
        while level + 1 < len(self._levels) or len(self._levels[level]) > HASH_BYTES:
            self._add_hash(level + 1, _hash_block(bytes(self._levels[level])))
            self._levels[level].clear()
            level += 1
        root = bytes(self._levels[level]) or bytes(HASH_BYTES)
        return hashlib.sha256(_pack_descriptor(self._size_bytes, root)).hexdigest()


def _hash_block(data: bytes) -> bytes:
    return hashlib.sha256(data.ljust(BLOCK_BYTES, b"\0")).digest()


def _pack_descriptor(size_bytes: int, root: bytes) -> bytes:
    """`struct fsverity_descriptor`: its sha256 is the digest of the file."""
    block_bits = BLOCK_BYTES.bit_length() - 1
    return struct.pack(
        "<BBBBIQ64s32s144x", 1, SHA256_ALGORITHM, block_bits, 0, 0, size_bytes, root, b""
    )


def digest_file(path: Path, *, direct: bool = False) -> FileDigests:
    """Size, sha256 and fs-verity digest of a file, in one pass; `direct` reads from the device."""
    sha256 = hashlib.sha256()
    merkle = MerkleHasher()
    size_bytes = 0
    chunks: Iterator[bytes | memoryview] = (
        fs.read_chunks_direct(path) if direct else _read_chunks(path)
    )
    for chunk in chunks:
        sha256.update(chunk)
        merkle.update(chunk)
        size_bytes += len(chunk)
        if isinstance(chunk, memoryview):
            chunk.release()
    return FileDigests(size_bytes, sha256.hexdigest(), merkle.hexdigest())


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while data := file.read(fs.CHUNK_BYTES):
            yield data


def is_supported() -> bool:
    """Whether the kernel has fs-verity for ext4."""
    return KERNEL_FEATURE.exists()


def enable_verity(path: Path) -> bool:
    """Seal a file for good: from now on it is read-only and checked; False: not supported here.

    Nobody may have the file open for writing. A file that is sealed already stays as it is.
    """
    argument = struct.pack("<IIIIQIIQ88x", 1, SHA256_ALGORITHM, BLOCK_BYTES, 0, 0, 0, 0, 0)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, ENABLE_IOCTL, argument)
    except OSError as error:
        if error.errno == errno.EEXIST:
            return True
        if error.errno in UNSUPPORTED:
            return False
        raise RamosError("cannot seal", path, error, "The file is unchanged") from error
    finally:
        os.close(descriptor)
    return True


def measure_verity(path: Path) -> str:
    """The digest that the kernel enforces for a file; empty where it is not sealed."""
    buffer = bytearray(struct.pack("<HH", 0, 64) + bytes(64))
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, MEASURE_IOCTL, buffer)
    except OSError as error:
        if error.errno in (errno.ENODATA, *UNSUPPORTED):
            return ""
        raise RamosError("cannot ask for the digest", path, error) from error
    finally:
        os.close(descriptor)
    algorithm, size_bytes = struct.unpack_from("<HH", buffer)
    if algorithm != SHA256_ALGORITHM:
        return f"algorithm-{algorithm}"
    return bytes(buffer[4 : 4 + size_bytes]).hex()
