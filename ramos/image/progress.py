"""What a build tells whoever watches it: steps, what was reused, and how long each took.

Owns: events and timings. Refuses: showing them. Invariant: every step that begins ends, or the
build ends with an error.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """What a build tells whoever watches it.

    `kind` is step (one begins), reused, done (it ended, after `seconds`), line or note.
    """

    kind: str
    text: str
    seconds: float = 0


Listener = Callable[[Event], None]


class Progress:
    """Times the steps and tells the listener."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.seconds: dict[str, float] = {}
        self.reused: list[str] = []

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """One named step; what it yields takes lines of output."""
        self.listener(Event("step", name))
        start = time.monotonic()
        yield lambda line: self.listener(Event("line", line))
        self.seconds[name] = round(time.monotonic() - start, 2)
        self.listener(Event("done", name, self.seconds[name]))

    def reuse(self, name: str) -> None:
        """A step that need not be done again."""
        self.reused.append(name)
        self.listener(Event("reused", name))

    def note(self, text: str) -> None:
        """Something the user should know."""
        self.listener(Event("note", text))
