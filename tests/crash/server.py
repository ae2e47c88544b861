"""A stick served through FUSE: one file `disk` whose every write and flush is logged.

Run as `python -m tests.crash.server BASE MOUNTPOINT LOG`; a loop device over `disk` (or a QEMU
drive) is then the stick. Owns: the FUSE protocol, the log and the faults. Refuses: more than a
stick needs (two more files: what is written to `mark` is a note in the log, what is written to
`control` is a fault to play). Invariants: requests are served one at a time, in the order they
come; BASE is never written (the writes live in this process, and end with it).

Faults, one a line in `control`: `lie TEXT COUNT` stores other bytes for the next COUNT writes that
hold TEXT (`*` for every write of 64 KiB and more); `fail write|flush N COUNT` answers EIO to COUNT
of them after N good ones; `vanish N` to everything after N writes; `heal` ends all of that.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from tests.crash.log import FLUSH, MARK, WRITE, append_record
from tests.crash.mounts import mount

IN_HEADER = struct.Struct("<IIQQIIIHH")
OUT_HEADER = struct.Struct("<IiQ")
ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
IO_REQUEST = struct.Struct("<QQIIQII")
INIT_REPLY = struct.Struct("<IIIIHHIIHHIIH")
INIT_REPLY_BYTES = 64
MAX_WRITE_BYTES = 1 << 20
PAGE_BYTES = 4096
FUSE_MINOR = 31
FLAG_BIG_WRITES = 1 << 5
FLAG_MAX_PAGES = 1 << 22
OPEN_DIRECT_IO = 1
ROOT, DISK, MARKS, CONTROL = 1, 2, 3, 4
NAMES = {b"disk": DISK, b"mark": MARKS, b"control": CONTROL}
SMALL_FILE_BYTES = 65536
LARGE_BYTES = 65536
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE_FILE = 1, 2, 3, 4, 14, 15, 16
STATFS, RELEASE, FSYNC, FLUSH_FILE, INIT, OPENDIR, READDIR = 17, 18, 20, 25, 26, 27, 28
RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 29, 36, 38, 42
SILENT = (FORGET, INTERRUPT, BATCH_FORGET)


class Faults:
    """What goes wrong, and when."""

    def __init__(self) -> None:
        self.writes_left = -1
        self.lie_about = b""
        self.lies = 0
        self.good = {"write": 0, "flush": 0}
        self.bad = {"write": 0, "flush": 0}

    def obey(self, line: str) -> None:
        """Take one line of `control`."""
        match line.split():
            case ["lie", text, count]:
                self.lie_about, self.lies = text.encode(), int(count)
            case ["fail", ("write" | "flush") as kind, after, count]:
                self.good[kind], self.bad[kind] = int(after), int(count)
            case ["vanish", after]:
                self.writes_left = int(after)
            case ["heal"]:
                self.__init__()  # type: ignore[misc]
            case _:
                raise OSError(errno.EINVAL, line)

    def meet(self, kind: str) -> None:
        """Fail, when it is this request's turn to."""
        if self.writes_left == 0:
            raise OSError(errno.EIO, "the stick is gone")
        if kind == "write" and self.writes_left > 0:
            self.writes_left -= 1
        if self.good.get(kind, 0) > 0:
            self.good[kind] -= 1
        elif self.bad.get(kind, 0) > 0:
            self.bad[kind] -= 1
            raise OSError(errno.EIO, f"injected on {kind}")

    def spoil(self, data: memoryview) -> bytes | memoryview:
        """The bytes that a stick which lies keeps of what it was given."""
        if not self.lies:
            return data
        at = len(data) // 2 if self.lie_about == b"*" else bytes(data).find(self.lie_about)
        if at < 0 or (self.lie_about == b"*" and len(data) < LARGE_BYTES):
            return data
        self.lies -= 1
        spoiled = bytearray(data)
        spoiled[at] ^= 0x10
        return bytes(spoiled)


class Server:
    """The state of one served stick."""

    def __init__(self, base: Path, mountpoint: Path, log: Path) -> None:
        descriptor = os.open(base, os.O_RDONLY)
        self.disk = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
        os.close(descriptor)
        self.log = log.open("ab", buffering=0)
        self.faults = Faults()
        self.device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        mount("ramos-stick", mountpoint, "fuse", f"fd={self.device},{MOUNT_OPTIONS}")
        self.answers: dict[int, Callable[[int, memoryview], bytes]] = {
            LOOKUP: self.look_up,
            GETATTR: lambda node, _: struct.pack("<QII", 0, 0, 0) + self.attributes(node),
            SETATTR: lambda node, _: struct.pack("<QII", 0, 0, 0) + self.attributes(node),
            OPEN: lambda _, __: struct.pack("<QII", 0, OPEN_DIRECT_IO, 0),
            OPENDIR: lambda _, __: struct.pack("<QII", 0, 0, 0),
            READ: self.read,
            WRITE_FILE: self.write,
            FSYNC: self.flush,
            INIT: self.greet,
            STATFS: lambda _, __: struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0),
            **dict.fromkeys((RELEASE, RELEASEDIR, FLUSH_FILE, READDIR, DESTROY), lambda *_: b""),
        }

    def serve(self) -> None:
        """Answer requests until the file system is unmounted."""
        buffer = bytearray(MAX_WRITE_BYTES + 2 * PAGE_BYTES)
        view = memoryview(buffer)
        while True:
            try:
                length = os.readv(self.device, [buffer])
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return
            _, opcode, unique, node, *_ = IN_HEADER.unpack_from(buffer)
            if opcode in SILENT:
                continue
            self.answer(opcode, unique, node, view[IN_HEADER.size : length])

    def answer(self, opcode: int, unique: int, node: int, body: memoryview) -> None:
        """One reply: a payload, or an error number."""
        code, payload = 0, b""
        handler = self.answers.get(opcode)
        try:
            if handler is None:
                raise OSError(errno.ENOSYS, "not a thing that a stick does")
            payload = handler(node, body)
        except OSError as error:
            code = -(error.errno or errno.EIO)
        with contextlib.suppress(FileNotFoundError):  # whoever asked was killed meanwhile
            os.writev(self.device, [OUT_HEADER.pack(16 + len(payload), code, unique), payload])

    def greet(self, _: int, body: memoryview) -> bytes:
        """FUSE_INIT: the version we speak, and writes of a whole megabyte."""
        read_ahead = struct.unpack_from("<IIII", body)[2]
        flags = FLAG_BIG_WRITES | FLAG_MAX_PAGES
        pages = MAX_WRITE_BYTES // PAGE_BYTES
        reply = INIT_REPLY.pack(
            7, FUSE_MINOR, read_ahead, flags, 16, 12, MAX_WRITE_BYTES, 1, pages, 0, 0, 0, 0
        )
        return reply.ljust(INIT_REPLY_BYTES, b"\0")

    def look_up(self, _: int, body: memoryview) -> bytes:
        """A name in the only directory there is."""
        node = NAMES.get(bytes(body).rstrip(b"\0"))
        if node is None:
            raise OSError(errno.ENOENT, "no such file")
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + self.attributes(node)

    def attributes(self, node: int) -> bytes:
        """struct fuse_attr."""
        sizes = {ROOT: 0, DISK: len(self.disk)}
        size = sizes.get(node, SMALL_FILE_BYTES)
        mode = (stat.S_IFDIR | 0o700) if node == ROOT else (stat.S_IFREG | 0o600)
        blocks = size // 512
        return ATTRIBUTES.pack(node, size, blocks, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def read(self, node: int, body: memoryview) -> bytes:
        """Bytes of the disk; the other files read as zeros."""
        _, offset, size, *_ = IO_REQUEST.unpack_from(body)
        if node != DISK:
            return bytes(max(0, min(size, SMALL_FILE_BYTES - offset)))
        self.faults.meet("read")
        return self.disk[offset : offset + size]

    def write(self, node: int, body: memoryview) -> bytes:
        """Bytes for the disk are logged and kept; the other files take words."""
        _, offset, size, *_ = IO_REQUEST.unpack_from(body)
        data = body[IO_REQUEST.size : IO_REQUEST.size + size]
        if node == DISK:
            self.faults.meet("write")
            kept = self.faults.spoil(data)
            append_record(self.log, WRITE, offset, kept)
            self.disk[offset : offset + size] = kept
        elif node == MARKS:
            append_record(self.log, MARK, 0, bytes(data).rstrip(b"\0\n"))
        else:
            self.faults.obey(bytes(data).decode("ascii").strip("\0\n"))
        return struct.pack("<II", size, 0)

    def flush(self, node: int, _: memoryview) -> bytes:
        """What a flush of the device becomes: all writes before it are durable now."""
        if node == DISK:
            self.faults.meet("flush")
            append_record(self.log, FLUSH, 0, b"")
        return b""


MOUNT_OPTIONS = "rootmode=40000,user_id=0,group_id=0,max_read=1048576"
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until unmounted; die with the parent, so that no stick is left behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 9)
    base, mountpoint, log = (Path(word) for word in sys.argv[1:4])
    server = Server(base, mountpoint, log)
    print("serving", flush=True)
    server.serve()


if __name__ == "__main__":
    main()
