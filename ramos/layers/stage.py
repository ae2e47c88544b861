"""Making a directory that holds exactly what a layer will hold.

Owns: carving a delta out of a snapshot by renames, linking or copying it from a live tmpfs, and
the edits that every layer needs (no excluded paths, no sockets, times that squashfs can hold).
Refuses: deciding what changed. Invariants: directories that are only on the way carry their own
attributes but never the opaque marker (it would hide earlier layers of this boot); hard links
within a delta stay hard links; a socket becomes a whiteout, so that nothing older shows up in its
place, unless it is bare: nothing older can, and overlayfs would list the whiteout.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator

from ramos.errors import RamosError
from ramos.layers.index import order_key
from ramos.layers.obstacles import HELD_XATTRS
from ramos.layers.walk import (
    ACL_XATTRS,
    DIRECTORIES,
    MAX_TIME_SECONDS,
    SOCKET,
    Delta,
    Entry,
    LeftOut,
    find_kind,
    walk,
)

OWN_XATTRS = "trusted.overlay."
COPY_BYTES = 1 << 22
Place = Callable[[bytes, bytes, os.stat_result], None]


def edit_snapshot(top: bytes, aside: bytes, delta: Delta) -> None:
    """Take out of a snapshot what no layer may hold; costs only the number of such entries."""
    os.mkdir(aside, 0o700)
    for number, path in enumerate(delta.excluded):
        with _keeping_times(os.path.dirname(os.path.join(top, path))):
            os.rename(os.path.join(top, path), os.path.join(aside, b"%d" % number))
    for path in delta.sockets:
        full = os.path.join(top, path)
        with _keeping_times(os.path.dirname(full)):
            os.unlink(full)
            if path not in delta.bare_sockets:
                make_whiteout(full)
    for path in (b"", *delta.clamped):
        clamp_times(os.path.join(top, path))


@contextlib.contextmanager
def _keeping_times(folder: bytes) -> Iterator[None]:
    status = os.lstat(folder)
    yield
    os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))


def make_whiteout(path: bytes) -> None:
    """What overlayfs reads as `nothing is here`."""
    os.mknod(path, stat.S_IFCHR, 0)


def clamp_times(path: bytes) -> None:
    """Squashfs counts seconds in 32 bits without a sign: the nearest that it can hold."""
    status = os.lstat(path)
    seconds = status.st_mtime_ns // 10**9
    clamped = min(max(seconds, 0), MAX_TIME_SECONDS)
    if clamped != seconds:
        os.utime(path, ns=(status.st_atime_ns, clamped * 10**9), follow_symlinks=False)


def list_needed_folders(delta: Delta) -> list[bytes]:
    """Directories that a layer needs for their own sake or on the way, parents first."""
    needed = set(delta.folders)
    for path in (*delta.moves, *delta.gone, *delta.folders):
        while (path := os.path.dirname(path)) and path not in needed:
            needed.add(path)
    return sorted(needed, key=order_key)


def fill_stage(top: bytes, stage: bytes, delta: Delta, place: Place) -> None:
    """Build the stage of a delta: directories on the way, what changed, and whiteouts."""
    os.mkdir(stage)
    folders = [b"", *list_needed_folders(delta)]
    times = []
    for folder in folders:
        source, target = os.path.join(top, folder), os.path.join(stage, folder)
        if folder:
            os.mkdir(target)
        status = os.lstat(source)
        copy_attributes(source, target, status, keep_opaque=False)
        times.append((target, status))
    for path in delta.moves:
        source = os.path.join(top, path)
        place(source, os.path.join(stage, path), os.lstat(source))
    for path in delta.gone:
        make_whiteout(os.path.join(stage, path))
    for target, status in reversed(times):
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        clamp_times(target)


def take_out_unreadable(folder: bytes) -> list[LeftOut]:
    """Remove the files of a tree of our own that the kernel cannot read, and name them."""
    found = []
    for entry in walk(folder):
        if stat.S_ISREG(entry.status.st_mode):
            full = os.path.join(folder, entry.path)
            try:
                _read_through(full)
            except OSError as error:
                found.append(LeftOut(entry.path, f"it cannot be read: {error.strerror}"))
                with _keeping_times(os.path.dirname(full)):
                    os.unlink(full)
    return found


def _read_through(path: bytes) -> None:
    with open(path, "rb", buffering=0) as file:
        while file.read(COPY_BYTES):
            pass


def remove_stage(stage: bytes) -> None:
    """Everything of it, as deep as it goes; what is not there is fine."""
    folders = [stage]
    with contextlib.suppress(OSError, RamosError):
        for entry in walk(stage):
            full = os.path.join(stage, entry.path)
            if entry.kind in DIRECTORIES:
                folders.append(full)
            else:
                os.unlink(full)
        for folder in reversed(folders):
            os.rmdir(folder)


def move_entry(source: bytes, target: bytes, _status: os.stat_result) -> None:
    """From a snapshot of our own: a rename takes everything along, a whole directory too."""
    os.rename(source, target)


class Placer:
    """Links or copies entries of a live tmpfs into its stage, directories with what is in them."""

    def __init__(self, top: bytes, stage: bytes, delta: Delta, *, link: bool) -> None:
        self._skipped = {os.path.join(top, path) for path in delta.excluded}
        self._clamped = {top, *(os.path.join(top, path) for path in delta.clamped)}
        self._bare = {os.path.join(top, path) for path in delta.bare_sockets}
        self._link = link
        self._inodes: dict[int, bytes] = {}
        self._stage = stage

    def place(self, source: bytes, target: bytes, status: os.stat_result) -> None:
        """Put one entry, and everything below it, into the stage."""
        self._place_one(source, target, Entry(b"", status, find_kind(source, status)))
        if not stat.S_ISDIR(status.st_mode):
            return
        folders = [(target, source, status)]
        for entry in walk(source, lambda path: os.path.join(source, path) in self._skipped):
            below, goal = os.path.join(source, entry.path), os.path.join(target, entry.path)
            self._place_one(below, goal, entry)
            if entry.kind in DIRECTORIES:
                folders.append((goal, below, entry.status))
        for goal, below, seen in reversed(folders):
            os.utime(goal, ns=(seen.st_atime_ns, seen.st_mtime_ns))
            self._clamp(below, goal)

    def _place_one(self, source: bytes, target: bytes, entry: Entry) -> None:
        status = entry.status
        if entry.kind in DIRECTORIES:
            if target != self._stage:
                os.mkdir(target)
            copy_attributes(source, target, status, keep_opaque=True)
            return
        if entry.kind == SOCKET:
            if source not in self._bare:
                make_whiteout(target)
            return
        earlier = self._inodes.get(status.st_ino) if status.st_nlink > 1 else None
        if earlier is not None:
            os.link(earlier, target, follow_symlinks=False)
            return
        if self._link:
            os.link(source, target, follow_symlinks=False)
        else:
            copy_entry(source, target, status)
        self._clamp(source, target)
        if status.st_nlink > 1:
            self._inodes[status.st_ino] = target

    def _clamp(self, source: bytes, target: bytes) -> None:
        if source in self._clamped:
            clamp_times(target)


def copy_entry(source: bytes, target: bytes, status: os.stat_result) -> None:
    """Copy one entry that is no directory, with all its attributes but ACLs."""
    mode = status.st_mode
    if stat.S_ISREG(mode):
        _copy_content(source, target, status)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
    else:
        os.mknod(target, mode, status.st_rdev)
    copy_attributes(source, target, status, keep_opaque=True)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _copy_content(source: bytes, target: bytes, status: os.stat_result) -> None:
    """Copy the data and keep the holes."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(writing, status.st_size)
        for start, end in list_data(reading, status.st_size):
            while start < end:
                start += _copy_piece(reading, writing, start, min(end - start, COPY_BYTES))
    finally:
        os.close(reading)
        os.close(writing)


def _copy_piece(reading: int, writing: int, start: int, count: int) -> int:
    data = os.pread(reading, count, start)
    if not data:
        raise OSError(errno.EIO, "the file became shorter while it was copied")
    return os.pwrite(writing, data, start)


def list_data(descriptor: int, size: int) -> Iterable[tuple[int, int]]:
    """The ranges of a file that hold data; the whole file where the kernel cannot tell."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno != errno.EINVAL:
                raise
            start, end = position, size
        yield start, end
        position = end


def copy_attributes(
    source: bytes, target: bytes, status: os.stat_result, *, keep_opaque: bool
) -> None:
    """Owner, mode and xattrs; of overlayfs's own xattrs only the opaque marker, if wanted."""
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in list_xattrs(source):
        if name in ACL_XATTRS or (name.startswith(OWN_XATTRS) and not keep_opaque):
            continue
        if name.startswith(OWN_XATTRS) and not name.endswith(".opaque"):
            continue
        value = os.getxattr(source, name, follow_symlinks=False)
        os.setxattr(target, name, value, follow_symlinks=False)


def list_xattrs(entry: bytes | int) -> list[str]:
    """Those xattrs of a path or an open file that a layer or its sidecar can hold, sorted."""
    try:
        names = os.listxattr(entry, follow_symlinks=isinstance(entry, int))
        return sorted(name for name in names if name.startswith((*HELD_XATTRS, *ACL_XATTRS)))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTSUP):
            return []
        name = "an open file" if isinstance(entry, int) else os.fsdecode(entry)
        raise RamosError("cannot read", name, error) from error
