"""Writing files so that they are there after a power cut, and reading them past the page cache.

Owns: durable write, publish, read-back, locks and crash points. Refuses: retrying a failed fsync
(the kernel may have dropped the dirty pages: the file is deleted and the caller starts over).
Invariant: a name that this module publishes is either absent or whole, at any instant.
"""

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ramos.errors import LockedError, RamosError, RefusedError

CHUNK_BYTES = 1 << 20
TEMPORARY_SUFFIX = ".tmp"
CRASH_VARIABLE = "RAMOS_CRASH_AT"


def crash_point(name: str) -> None:
    """Die here, without any clean-up, where a test asked for it: the proof of crash safety."""
    if os.environ.get(CRASH_VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable, then drop it from the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file its name, durably: fsync, rename, fsync of the directory."""
    try:
        sync_file(temporary)
        crash_point(f"publish-before-rename:{final.name}")
        temporary.rename(final)
        crash_point(f"publish-after-rename:{final.name}")
        sync_directory(final.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RamosError("cannot write", final, error) from error


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a small file as a whole: it holds the old bytes or the new ones.

    The mode is what it says, whatever the umask.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RamosError("cannot write", path, error) from error
    publish(temporary, path)


def write_changed(path: Path, text: str) -> None:
    """Replace a small file as a whole where it differs; who may read it stays as it is."""
    data = text.encode("utf-8", "surrogateescape")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, data)
    elif path.read_bytes() != data:
        write_durably(path, data, stat.S_IMODE(path.stat().st_mode))


def read_chunks_direct(path: Path) -> Iterator[memoryview]:
    """A file's bytes from the device, past the page cache (plainly where O_DIRECT is refused)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with mmap.mmap(-1, CHUNK_BYTES) as buffer, os.fdopen(descriptor, "rb", buffering=0) as file:
        view = memoryview(buffer)
        try:
            while count := file.readinto(view):
                yield view[:count]
        finally:
            view.release()


def hash_file(path: Path, *, direct: bool = False) -> str:
    """The sha256 of a file; with `direct`, of what the device gives back."""
    digest = hashlib.sha256()
    if direct:
        for chunk in read_chunks_direct(path):
            digest.update(chunk)
            chunk.release()
        return digest.hexdigest()
    with path.open("rb", buffering=0) as file:
        while data := file.read(CHUNK_BYTES):
            digest.update(data)
    return digest.hexdigest()


@contextlib.contextmanager
def hold_lock(
    path: Path,
    purpose: str,
    wait_seconds: float = 0,
    take: Callable[[int, int], None] = fcntl.flock,
) -> Iterator[None]:
    """Hold the lock file; who holds it, and for what, can be read in it.

    Whoever can open a file can lock it: nobody else can open this one. `take` is fcntl.lockf where
    the others hold it that way.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RefusedError("cannot start", path, error) from error
    try:
        _take_lock(descriptor, path, time.monotonic() + wait_seconds, take)
        _note_holder(descriptor, f"{os.getpid()} {purpose}\n")
        try:
            yield
        finally:
            _note_holder(descriptor, "")
    finally:
        os.close(descriptor)


def _note_holder(descriptor: int, text: str) -> None:
    """It is the lock that counts; a full /run must not stop a save, nor hide why one failed."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _take_lock(
    descriptor: int, path: Path, deadline: float, take: Callable[[int, int], None]
) -> None:
    while True:
        try:
            take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = path.read_text(errors="replace").strip() or "another process"
                raise LockedError(
                    "cannot start",
                    path,
                    f"held by {holder}",
                    hint="Wait for it to end, or stop it, then try again.",
                ) from None
            time.sleep(0.05)
