"""A zram device of our own, as the initramfs makes one for the upper.

Owns: adding and removing it. Refuses: touching a device it did not add.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

CONTROL = Path("/sys/class/zram-control")


@contextlib.contextmanager
def zram_device(size_bytes: int) -> Iterator[Path]:
    """A fresh zram device with lz4; it is gone after the block."""
    number = (CONTROL / "hot_add").read_text().strip()
    block = Path(f"/sys/block/zram{number}")
    try:
        (block / "comp_algorithm").write_text("lz4")
        (block / "disksize").write_text(str(size_bytes))
        yield Path(f"/dev/zram{number}")
    finally:
        (block / "reset").write_text("1")
        (CONTROL / "hot_remove").write_text(number)


def read_memory_bytes(device: Path) -> int:
    """The RAM that a zram device takes."""
    return int(Path(f"/sys/block/{device.name}/mm_stat").read_text().split()[2])
