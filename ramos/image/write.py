"""Writing an image to a real disk: pinned, checked for false capacity, read back.

Owns: one exclusive descriptor from the question to the last byte, and everything that goes
through it. Refuses: deciding whether a disk may be written (`stick.disks` does), and caching (all
transfers are O_DIRECT, so that progress is the disk's own and a read-back reads the disk).
Invariant: the head of the image is written last; a write that stops half-way leaves a disk with
no partition table, never one that looks finished.
"""

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import secrets
import stat
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import DamagedError, RamosError, RefusedError, find_reason
from ramos.progress import OnProgress, Progress
from ramos.sizes import format_size
from ramos.stick.disks import Disk

BLKGETSIZE64 = 0x80081272
BLKGETDISKSEQ = 0x80081280
CHUNK_BYTES = 4 << 20
HEAD_BYTES = 1 << 20
PROBE_BYTES = 4096
PROBES = 2048
SMALLEST_PROBE_STEP = 1 << 20
HALF_WRITTEN = "The disk holds no usable system now"

CHECK, WRITE, READ_BACK = "check capacity", "write", "read back"
# Where, and what to write there in place of what the image holds.
Patch = tuple[int, bytes]


@dataclass(frozen=True)
class HeldDisk:
    """A disk that is held open for writing, and what tells it apart from any other."""

    path: str
    descriptor: int
    device: int
    size_bytes: int
    sequence: int


@contextlib.contextmanager
def hold_target(disk: Disk) -> Iterator[HeldDisk]:
    """Open a disk exclusively; it must still be the disk that was listed."""
    flags = os.O_RDWR | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC
    try:
        descriptor = os.open(disk.path, flags)
    except OSError as error:
        raise _unopened(disk, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISBLK(status.st_mode):
            raise RefusedError("cannot write", disk.path, "it is not a disk")
        size = _ask_number(descriptor, BLKGETSIZE64)
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        if (number, size) != (disk.device_number, disk.size_bytes):
            raise _replaced(disk.path, "Nothing was written")
        sequence = _ask_number(descriptor, BLKGETDISKSEQ)
        yield HeldDisk(disk.path, descriptor, status.st_rdev, size, sequence)
    finally:
        os.close(descriptor)


def check_free(disk: Disk) -> None:
    """Refuse a disk that cannot be opened for this process alone; nothing is written to it."""
    try:
        os.close(os.open(disk.path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        raise _unopened(disk, error) from error


def check_identity(target: HeldDisk, state: str = "Nothing was written") -> None:
    """The name must still lead to the disk that was opened, and the disk must still be there."""
    try:
        status = Path(target.path).stat()
        same = stat.S_ISBLK(status.st_mode) and status.st_rdev == target.device
        size = _ask_number(target.descriptor, BLKGETSIZE64)
        same = same and size == target.size_bytes
        same = same and _ask_number(target.descriptor, BLKGETDISKSEQ) == target.sequence
    except OSError:
        same = False
    if not same:
        raise _replaced(target.path, state)


def write_image(
    target: HeldDisk, image: Path, on_progress: OnProgress, changes: Sequence[Patch] = ()
) -> str:
    """Write the image with changes, its head last; gives back the sha256 of what was written."""
    size = image.stat().st_size
    if size > target.size_bytes:
        reason = f"the image has {size} bytes, the disk {target.size_bytes}"
        raise RefusedError("cannot write", target.path, reason)
    check_identity(target)
    try:
        with _buffer(CHUNK_BYTES) as buffer, image.open("rb", buffering=0) as source:
            _wipe_ends(target, buffer)
            head = change_bytes(source.read(HEAD_BYTES), 0, changes)
            digest = hashlib.sha256(head)
            _write_body(target, source, size, digest, on_progress, changes)
            check_identity(target, HALF_WRITTEN)
            _write_at(target, buffer, 0, head)
            os.fsync(target.descriptor)
        on_progress(Progress(WRITE, size, size))
    except OSError as error:
        raise _failed(target, error) from error
    return digest.hexdigest()


def read_back(target: HeldDisk, size: int, wanted: str, on_progress: OnProgress) -> None:
    """Read what was written from the disk itself and compare."""
    digest = hashlib.sha256()
    try:
        with _buffer(CHUNK_BYTES) as buffer:
            for offset in range(0, size, CHUNK_BYTES):
                count = min(CHUNK_BYTES, size - offset)
                digest.update(_read_at(target, buffer, offset)[:count])
                on_progress(Progress(READ_BACK, offset + count, size))
    except OSError as error:
        raise _failed(target, error) from error
    if digest.hexdigest() != wanted:
        raise DamagedError(
            "cannot trust", target.path, "it gives back other bytes than were written to it",
            HALF_WRITTEN, "Throw this stick away.",
        )  # fmt: skip


def check_capacity(target: HeldDisk, on_progress: OnProgress) -> None:
    """Find a disk that claims more than it has: every probe must come back as it was written.

    A disk of false capacity wraps around or forgets. Probes stand a power of two apart, so that
    two of them meet on a disk that wraps at a multiple of that distance.
    """
    step = SMALLEST_PROBE_STEP
    while step * PROBES < target.size_bytes:
        step *= 2
    last = (target.size_bytes - PROBE_BYTES) // PROBE_BYTES * PROBE_BYTES
    offsets = [*range(0, last, step), last]
    nonce = secrets.token_bytes(16)
    total = 2 * len(offsets)
    try:
        with _buffer(PROBE_BYTES) as buffer:
            for index, offset in enumerate(offsets):
                _write_at(target, buffer, offset, _make_probe(nonce, offset))
                on_progress(Progress(CHECK, index + 1, total))
            os.fsync(target.descriptor)
            for index, offset in enumerate(offsets):
                if _read_at(target, buffer, offset) != _make_probe(nonce, offset):
                    raise _false_capacity(target, offset)
                on_progress(Progress(CHECK, len(offsets) + index + 1, total))
    except OSError as error:
        raise _failed(target, error) from error


def _write_body(
    target: HeldDisk,
    source: object,
    size: int,
    digest: "hashlib._Hash",
    on_progress: OnProgress,
    changes: Sequence[Patch],
) -> None:
    """Everything behind the head, in large writes."""
    with _buffer(CHUNK_BYTES) as buffer:
        offset = HEAD_BYTES
        while offset < size:
            data = source.read(min(CHUNK_BYTES, size - offset))  # type: ignore[attr-defined]
            if not data:
                raise OSError(errno.EIO, "the image became shorter while it was read")
            data = change_bytes(data, offset, changes)
            digest.update(data)
            _write_at(target, buffer, offset, data)
            offset += len(data)
            on_progress(Progress(WRITE, offset, size))
            check_identity(target, HALF_WRITTEN)


def change_bytes(data: bytes, start: int, changes: Sequence[Patch]) -> bytes:
    """A piece of an image that begins at `start`, with the parts of the changes that lie in it."""
    changed = bytearray(data)
    for offset, new in changes:
        first, end = max(offset, start), min(offset + len(new), start + len(data))
        if first < end:
            changed[first - start : end - start] = new[first - offset : end - offset]
    return bytes(changed)


def _wipe_ends(target: HeldDisk, buffer: mmap.mmap) -> None:
    """Clear both partition tables, so that nothing old is found while the new is half there."""
    zeros = bytes(HEAD_BYTES)
    _write_at(target, buffer, 0, zeros)
    end = (target.size_bytes - HEAD_BYTES) // PROBE_BYTES * PROBE_BYTES
    if end > 0:
        _write_at(target, buffer, end, zeros)


def _write_at(target: HeldDisk, buffer: mmap.mmap, offset: int, data: bytes) -> None:
    """Write data (padded with zeros to whole blocks) at an offset."""
    length = -(-len(data) // PROBE_BYTES) * PROBE_BYTES
    length = min(length, target.size_bytes - offset)
    buffer[: len(data)] = data
    buffer[len(data) : length] = bytes(length - len(data))
    with memoryview(buffer) as view, view[:length] as part:
        if os.pwrite(target.descriptor, part, offset) != length:
            raise OSError(errno.EIO, "the disk took less than was written")


def _read_at(target: HeldDisk, buffer: mmap.mmap, offset: int) -> bytes:
    length = min(len(buffer), target.size_bytes - offset)
    with memoryview(buffer) as view, view[:length] as part:
        if os.preadv(target.descriptor, [part], offset) != length:
            raise OSError(errno.EIO, "the disk gave back less than was asked for")
        return bytes(part)


def _make_probe(nonce: bytes, offset: int) -> bytes:
    """A block that could stand nowhere else, and was never on this disk before."""
    return (nonce + struct.pack("<Q", offset)) * (PROBE_BYTES // 24) + bytes(PROBE_BYTES % 24)


def _ask_number(descriptor: int, request: int) -> int:
    value = bytearray(8)
    fcntl.ioctl(descriptor, request, value)
    return int.from_bytes(value, sys.byteorder)


@contextlib.contextmanager
def _buffer(size: int) -> Iterator[mmap.mmap]:
    """Memory aligned to a page, as O_DIRECT needs it."""
    with mmap.mmap(-1, size) as buffer:
        yield buffer


def _unopened(disk: Disk, error: OSError) -> RefusedError:
    reason = "it is in use" if error.errno == errno.EBUSY else find_reason(error)
    return RefusedError("cannot write", disk.path, reason)


def _replaced(path: str, state: str) -> RamosError:
    return RamosError(
        "cannot write", path, "it is not the disk that was chosen any more", state,
        "The stick was pulled, or another took its name. Put it in again and start over.",
    )  # fmt: skip


def _failed(target: HeldDisk, error: OSError) -> RamosError:
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return _replaced(target.path, HALF_WRITTEN)
    return RamosError("cannot write", target.path, error, HALF_WRITTEN, "Try another stick.")


def _false_capacity(target: HeldDisk, offset: int) -> DamagedError:
    claimed, lost = format_size(target.size_bytes), format_size(offset)
    return DamagedError(
        "cannot trust", target.path,
        f"it claims {claimed}, but what was written at {lost} is gone",
        "It was not provisioned", "It is a stick of false capacity: throw it away.",
    )  # fmt: skip
