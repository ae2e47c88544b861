"""How far long work is: one value, told by whoever works, and shown by whoever looks on.

Owns: what can be said of it. Refuses: showing it, and guessing what nobody knows.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A step, in words for people, and how much is done of the work that it belongs to.

    `total` is 0 where nobody knows. `detail` is what the step is at just now; of a step that has
    `ended`, what is to be said of it.
    """

    step: str
    done: float = 0
    total: float = 0
    detail: str = ""
    ended: bool = False

    @property
    def part(self) -> float:
        """How much is done, from 0 to 1; 0 where nobody knows."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total else 0.0

    @property
    def percent(self) -> int:
        """The same, and 100 only once all is done."""
        return min(max(int(100 * self.done / self.total), 0), 100) if self.total else 0


OnProgress = Callable[[Progress], None]


def quiet(_: Progress) -> None:
    """Nobody looks on."""


def tell_lines(on_progress: OnProgress, step: str) -> Callable[[str], None]:
    """For the lines that a program prints during a step."""
    return lambda line: on_progress(Progress(step, detail=line))
