"""What an operation costs: seconds, bytes that reach the block device, extra RAM.

Owns: the counters. Refuses: estimates; each number comes from the kernel. RAM is the peak of what
the process and its children hold for themselves, plus the growth of the in-memory file systems.
"""

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR_BYTES = 512
SAMPLE_SECONDS = 0.01


@dataclass
class Cost:
    """What was paid."""

    seconds: float = 0.0
    written_bytes: int = 0
    ram_bytes: int = 0
    notes: dict[str, float] = field(default_factory=dict)


def read_written(device: Path) -> int:
    """How many bytes a block device was asked to write so far."""
    fields = Path(f"/sys/class/block/{device.name}/stat").read_text().split()
    return int(fields[6]) * SECTOR_BYTES


def flush_file_system(folder: Path) -> None:
    """Write out what a file system still holds back, so that it is counted."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs", str(folder))
    finally:
        os.close(descriptor)


def read_private_bytes(pid: int) -> int:
    """Memory that a process and its children hold for themselves; what they share counts once."""
    total = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += read_private_bytes(int(child))
    return total


def read_file_system_bytes(folder: Path) -> int:
    """What a file system in memory holds."""
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@contextlib.contextmanager
def sampled(read: Callable[[], int]) -> Iterator[Callable[[], int]]:
    """The highest value that `read` gives during the block, above the one at its start."""
    before = read()
    peak = before
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            peak = max(peak, read())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: peak - before
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def measured(device: Path, folder: Path, memory: Callable[[], int]) -> Iterator[Cost]:
    """Measure the block; what the file system still holds back is flushed and counted as well."""
    cost = Cost()
    written = read_written(device)
    started = time.monotonic()
    with sampled(memory) as peak:
        yield cost
        cost.seconds = time.monotonic() - started
    flush_file_system(folder)
    cost.written_bytes = read_written(device) - written
    cost.ram_bytes = peak()
