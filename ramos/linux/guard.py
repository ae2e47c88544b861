"""A child that cleans up for us if we are killed.

Owns: that child. Refuses: doing anything when the block it guards ends by itself, well or not.
Invariant: from the start of the block until its end, the death of this process, SIGKILL included,
runs the clean-up within a moment; the locks that this process holds are held until it is done.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

DONE = b"done\n"
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


class Guard:
    """The child and the pipe on which it learns what to know, and that we are gone."""

    def __init__(self, clean: Callable[[list[str]], None]) -> None:
        reading, self._writing = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._writing)
            _watch(reading, clean)
        os.close(reading)

    def tell(self, note: str) -> None:
        """A line that the clean-up will get, in order; written before what it is about is done."""
        os.write(self._writing, note.encode() + b"\n")

    def dismiss(self) -> None:
        """We are still there and have cleaned up ourselves."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writing, DONE)
        os.close(self._writing)
        os.waitpid(self.pid, 0)


def _watch(reading: int, clean: Callable[[list[str]], None]) -> None:
    """The child's whole life; it never returns."""
    try:
        os.setsid()
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        heard = b""
        while data := os.read(reading, 65536):
            heard += data
        if not heard.endswith(DONE):
            clean(heard.decode().splitlines())
    finally:
        os._exit(0)


@contextlib.contextmanager
def guarded(clean: Callable[[list[str]], None]) -> Iterator[Guard]:
    """Run the block; `clean` runs only if this process dies inside it."""
    guard = Guard(clean)
    try:
        yield guard
    finally:
        guard.dismiss()
