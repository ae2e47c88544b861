"""The files that going down needs, kept in RAM while the stick may be pulled out.

Owns: which files those are, and the child that holds them. Refuses: copies: what is held are the
pages that every program shares. Invariants: holding costs no process but this child its memory;
once the stick is gone they are held to the end, for nothing could read them again.
"""

import contextlib
import gc
import mmap
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from ramos import layout
from ramos.errors import RamosError
from ramos.linux import elf, syscalls
from ramos.linux.child import run_worker, start_child
from ramos.progress import quiet
from ramos.shutdown import deadline

# What ends a system, with systemd and with OpenRC, and what makes or mends a save.
PROGRAMS = (
    *("/usr/bin/mksquashfs", "/sbin/e2fsck"),
    # glibc loads it when a thread ends, and mksquashfs does not name it.
    *("/lib/x86_64-linux-gnu/libgcc_s.so.1", "/usr/lib/libgcc_s.so.1"),
    *("/bin/systemctl", "/lib/systemd/systemd-shutdown", "/lib/systemd/systemd-executor"),
    *("/sbin/openrc", "/sbin/openrc-run", "/sbin/supervise-daemon", "/sbin/killall5"),
    *("/sbin/shutdown", "/sbin/halt", "/sbin/reboot", "/sbin/poweroff", "/sbin/init"),
    *("/bin/sh", "/bin/busybox", "/bin/sleep", "/bin/sync", "/bin/mount"),
)
FOLDERS = ("/lib/rc/sh", "/lib/rc/bin", "/usr/libexec/rc/sh", "/usr/libexec/rc/bin", "/etc/init.d")
MARK = layout.RUN_DIR / "kept"
NICE_STEPS = 19
FIND_SECONDS = 300.0
MAX_DESCRIPTORS = 4096
KEPT_READER = 3
Held = list[tuple[int, mmap.mmap | None]]


def list_files(root: Path = Path("/")) -> list[Path]:
    """Those of the files that this system has, with the libraries of the programs."""
    names = [path for path in PROGRAMS if elf.find_file(root, path)]
    libraries: set[str] = set()
    for program in names:
        with contextlib.suppress(OSError, RamosError):  # one of them less, but not none
            libraries.update(elf.find_libraries(root, [program]))
    for folder in FOLDERS:
        with contextlib.suppress(OSError):
            names += [f"{folder}/{name}" for name in sorted(os.listdir(root / folder[1:]))]
    paths = (root / name.lstrip("/") for name in (*names, *sorted(libraries)))
    return [path for path in paths if path.is_file()]


def find_files() -> list[Path]:
    """The same, found by a child: what it takes to read the programs goes with it."""
    try:
        found = run_worker(lambda _: {"files": [*map(str, list_files())]}, quiet, FIND_SECONDS)
    except RamosError:
        return []
    return [Path(name) for name in found["files"]]


def hold_files(paths: Iterable[Path]) -> Held:
    """Open them and bring them into RAM; both end with this process."""
    held: Held = []
    syscalls.lock_future()
    for path in paths:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            size = os.fstat(descriptor).st_size
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
            pages = mmap.mmap(descriptor, size, flags, mmap.PROT_READ) if size else None
            held.append((descriptor, pages))
    return held


def start_keeper(is_there: Callable[[], bool]) -> int:
    """Hold them from now on; a descriptor whose end, with its process, lets go of them."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    gc.freeze()  # looking through our objects would copy the memory that the two share
    start_child(lambda: _be_keeper(reader, is_there))
    os.close(reader)
    return writer


def _be_keeper(reader: int, is_there: Callable[[], bool]) -> None:
    """The child's whole life."""
    os.dup2(reader, KEPT_READER)
    os.closerange(KEPT_READER + 1, MAX_DESCRIPTORS)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()
    deadline.leave_service()
    os.nice(NICE_STEPS)
    held = hold_files(find_files())
    with contextlib.suppress(OSError):
        MARK.write_text(f"{len(held)}\n", encoding="ascii")
    os.read(KEPT_READER, 1)
    while held and not is_there():
        signal.pause()
