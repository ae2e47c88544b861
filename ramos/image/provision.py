"""From an image file to a stick: check, write, read back, grow.

Owns: the order of the steps on a disk that is held open, and what is told on the way. Refuses:
choosing the disk and asking the user. Invariant: every byte goes through the descriptor that was
opened when the disk was chosen.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from ramos.image import identity, partitions, write
from ramos.image.steps import Steps
from ramos.progress import OnProgress, Progress
from ramos.sizes import format_size
from ramos.stick import grow

REPORT_SECONDS = 0.2
STEPS = (write.CHECK, write.WRITE, write.READ_BACK, "grow persist")


@dataclass(frozen=True)
class Written:
    """What is on the disk now."""

    device: str
    image_bytes: int
    sha256: str
    persist_bytes: int
    grown: bool


def provision(target: write.HeldDisk, image: Path, steps: Steps) -> Written:
    """Put an image on the disk that is held, and make persist as large as the disk allows."""
    size = image.stat().st_size
    write.check_identity(target)
    with steps.step(write.CHECK):
        write.check_capacity(target, Meter(steps.on_progress, count_bytes=False))
    # No two sticks are alike, so that none is ever taken for another.
    changes = identity.plan_changes(image, partitions.make_identity(""))
    with steps.step(write.WRITE):
        digest = write.write_image(target, image, Meter(steps.on_progress), changes)
    with steps.step(write.READ_BACK):
        write.read_back(target, size, digest, Meter(steps.on_progress))
    with steps.step("grow persist"):
        partition = grow.grow_partition(Path(target.path), target.size_bytes)
        grown = grow.grow_unmounted(Path(target.path), partition)
        write.check_identity(target, "The image was written, persist may not have grown")
    return Written(target.path, size, digest, partition.size_bytes, grown)


class Meter:
    """Adds speed and time left, and does not tell too often."""

    def __init__(self, on_progress: OnProgress, count_bytes: bool = True) -> None:
        self.on_progress = on_progress
        self.count_bytes = count_bytes
        self.start = time.monotonic()
        self.last = 0.0

    def __call__(self, seen: Progress) -> None:
        now = time.monotonic()
        if now - self.last < REPORT_SECONDS and seen.done < seen.total:
            return
        self.last = now
        speed = describe_speed(seen, now - self.start) if self.count_bytes else ""
        self.on_progress(replace(seen, detail=speed))


def describe_speed(seen: Progress, seconds: float) -> str:
    """How fast, how long still; nothing before there is something to go by."""
    if seconds <= 0 or not seen.done:
        return ""
    speed = seen.done / seconds
    left = round((seen.total - seen.done) / speed)
    return f"{format_size(speed)}/s, {left // 60}:{left % 60:02d} left"
