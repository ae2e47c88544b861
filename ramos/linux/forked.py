"""A function in a child process, its answer through a pipe.

Owns: the child and the pipe. Refuses: running other programs (`run` does that). Invariants: the
child is gone with the block, whatever happened in it, and with its parent, SIGKILL included; an
error in the child is one here, and so is its death.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator

from ramos.errors import RamosError

WELL, FAILED = b"+", b"-"
PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def forked(work: Callable[[], bytes], what: str) -> Iterator[Callable[[], bytes]]:
    """Run `work` in a child beside the block; what this gives waits for the answer."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(writing, parent, work)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            yield lambda: _judge(pipe.read(), what)
    finally:
        os.kill(child, signal.SIGKILL)  # it is not reaped yet, so the number is still its own
        os.waitpid(child, 0)


def _judge(answer: bytes, what: str) -> bytes:
    """The answer itself, or the error that it stands for."""
    if answer.startswith(WELL):
        return answer[1:]
    raise RamosError("cannot compare", what, answer[1:].decode() or "the check died")


def _answer(writing: int, parent: int, work: Callable[[], bytes]) -> None:
    """The child's whole life; it never returns."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            try:
                answer = WELL + work()
            except (OSError, RamosError) as error:
                answer = FAILED + str(error).encode("utf-8", "replace")
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
    finally:
        os._exit(0)
