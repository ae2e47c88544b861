"""Notes each function of ours, when a process first comes to it: the end of a copy's `ramos`.

Owns: the hook of the interpreter. Where tests are measured `ramos/__init__.py` ends with this text,
so that every process that runs RAMOS has it, be it started, forked or killed.
Invariant: where the log cannot be written nothing is noted, and nothing else changes.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType

LOG = "where the notes go"
HOME = os.path.dirname(__file__)  # noqa: PTH120  (all of ours goes through here)
SEEN: set[int] = set()


def note(
    line: str,
    begin: Callable[[str, int], int] = os.open,
    write: Callable[[int, bytes], int] = os.write,
    close: Callable[[int], None] = os.close,
) -> None:
    """One line more; a test may put something else in the place of these calls."""
    with contextlib.suppress(OSError):
        file = begin(LOG, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            write(file, f"{line}\n".encode())
        finally:
            close(file)


def trace(frame: FrameType, _event: str, _argument: object) -> None:
    """A function begins; its lines are not asked for."""
    code = frame.f_code
    if id(code) not in SEEN:
        SEEN.add(id(code))
        if code.co_filename.startswith(HOME):
            note(f"ramos{code.co_filename[len(HOME) :]} {code.co_name}")


sys.settrace(trace)
threading.settrace(trace)
