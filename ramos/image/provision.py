"""From an image file to a stick: check, write, read back, grow.

Owns: the order of the steps on a disk that is held open, and what is told on the way. Refuses:
choosing the disk and asking the user. Invariant: every byte goes through the descriptor that was
opened when the disk was chosen.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ramos.image import identity, partitions, write
from ramos.image.progress import Progress
from ramos.sizes import format_size
from ramos.stick import grow

REPORT_SECONDS = 0.2
STEPS = ("check capacity", "write", "read back", "grow persist")


@dataclass(frozen=True)
class Written:
    """What is on the disk now."""

    device: str
    image_bytes: int
    sha256: str
    persist_bytes: int
    grown: bool


def provision(target: write.Target, image: Path, progress: Progress) -> Written:
    """Put an image on the disk that is held, and make persist as large as the disk allows."""
    size = image.stat().st_size
    write.check_identity(target)
    with progress.step("check capacity") as on_line:
        write.check_capacity(target, Meter(on_line, count_bytes=False))
    # No two sticks are alike, so that none is ever taken for another.
    changes = identity.plan_changes(image, partitions.make_identity(""))
    with progress.step("write") as on_line:
        digest = write.write_image(target, image, Meter(on_line), changes)
    with progress.step("read back") as on_line:
        write.read_back(target, size, digest, Meter(on_line))
    with progress.step("grow persist"):
        partition = grow.grow_partition(Path(target.path), target.size_bytes)
        grown = grow.grow_unmounted(Path(target.path), partition)
        write.check_identity(target, "The image was written, persist may not have grown")
    return Written(target.path, size, digest, partition.size_bytes, grown)


class Meter:
    """Turns (done, total) into lines with percentage, speed and time left, not too often."""

    def __init__(self, on_line: Callable[[str], None], count_bytes: bool = True) -> None:
        self.on_line = on_line
        self.count_bytes = count_bytes
        self.start = time.monotonic()
        self.last = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last < REPORT_SECONDS and done < total:
            return
        self.last = now
        self.on_line(describe_progress(done, total, now - self.start, self.count_bytes))


def describe_progress(done: int, total: int, seconds: float, count_bytes: bool) -> str:
    """One line: how far, how fast, how long still."""
    percent = f"{done * 100 // max(total, 1)}%"
    if not count_bytes or seconds <= 0 or not done:
        return percent
    speed = done / seconds
    left = round((total - done) / speed)
    return f"{percent} {format_size(speed)}/s, {left // 60}:{left % 60:02d} left"
