"""When memory is short and when the upper is full: the decisions.

Owns: the thresholds and their hysteresis. Refuses: looking at the machine (numbers in, decisions
out). Invariants: the swapfile is never switched off into a shortage; a level is announced once,
and again only after the fill had clearly fallen below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ramos.config import MemoryConfig
from ramos.sizes import KIB

REARM_PERCENT = 5
CALM_SECONDS = 30.0
SPARE_PERCENT = 25


@dataclass(frozen=True)
class Memory:
    """What /proc/meminfo and /proc/swaps say, in KiB."""

    total_kib: int
    available_kib: int
    swapfile_used_kib: int = 0

    @property
    def available_percent(self) -> float:
        """The share of RAM that programs could still get."""
        return 100 * self.available_kib / max(1, self.total_kib)

    @property
    def after_release_percent(self) -> float:
        """The share that would be left with everything back from the swapfile."""
        return 100 * (self.available_kib - self.swapfile_used_kib) / max(1, self.total_kib)


def wants_swap(memory: Memory, config: MemoryConfig) -> bool:
    """Whether memory is so short that the swapfile is worth its writes."""
    return config.swapfile and memory.available_percent < config.swap_on_percent


def is_calm(memory: Memory, config: MemoryConfig) -> bool:
    """Whether there is room for what lies in the swapfile, and more."""
    off_percent = max(config.swap_off_percent, config.swap_on_percent + 1)
    return (
        memory.available_percent > off_percent
        and memory.after_release_percent > 2 * config.swap_on_percent
    )


def has_room(memory: Memory, size_bytes: int) -> bool:
    """Whether so much can be kept in RAM for good, with a quarter of it left for programs."""
    left_kib = memory.available_kib - size_bytes // KIB
    return 100 * left_kib >= SPARE_PERCENT * memory.total_kib


def find_level(fill_percent: float, levels: Sequence[int], announced: int) -> int:
    """The level that counts as announced now: higher than before means that it is news."""
    reached = max((level for level in levels if fill_percent >= level), default=0)
    if reached >= announced:
        return reached
    kept = [lv for lv in levels if lv <= announced and fill_percent > lv - REARM_PERCENT]
    return max(kept, default=reached)
