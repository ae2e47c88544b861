"""The steps of a build: each begins, ends, and takes its time.

Owns: what is told of a step, what was reused, and the timings. Refuses: showing them. Invariant:
every step that begins ends, or the build ends with an error.
"""

import contextlib
import time
from collections.abc import Iterator

from ramos.linux.run import OnLine
from ramos.progress import OnProgress, Progress, tell_lines


class Steps:
    """Times the steps and tells of them."""

    def __init__(self, on_progress: OnProgress) -> None:
        self.on_progress = on_progress
        self.seconds: dict[str, float] = {}
        self.reused: list[str] = []

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[OnLine]:
        """One named step; what it yields takes lines of output."""
        self.on_progress(Progress(name))
        start = time.monotonic()
        yield tell_lines(self.on_progress, name)
        self.seconds[name] = round(time.monotonic() - start, 2)
        self._end(name, f"{self.seconds[name]:.1f} s")

    def reuse(self, name: str) -> None:
        """A step that need not be done again."""
        self.reused.append(name)
        self._end(name, "reused")

    def note(self, text: str) -> None:
        """Something the user should know."""
        self._end(text, "")

    def _end(self, step: str, detail: str) -> None:
        self.on_progress(Progress(step, detail=detail, ended=True))
