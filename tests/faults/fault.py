"""A fault: one small edit of one file, and how it is planted and taken out again.

Owns: the edit and its name. Invariant: taking it out leaves the very bytes that were there.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Caches of Python and mypy go by size and seconds of the time: each edit gets a second of its own,
# from a day on that no file has yet.
SECONDS = itertools.count(int(time.time()) + 86400)


@dataclass(frozen=True)
class Fault:
    """Bytes of a file (a path in the repository) that become others."""

    file: str
    number: int
    line: str
    operator: str
    start: int
    end: int
    text: bytes
    function: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What names it as long as its line is there, wherever that moves to."""
        return self.file, self.operator, self.line

    def apply(self, source: bytes) -> bytes:
        """The file with the fault in it."""
        return source[: self.start] + self.text + source[self.end :]

    def describe(self) -> str:
        """One line for people."""
        return f"{self.file}:{self.number}: {self.operator}: {self.line}"


def name_line(source: bytes, start: int) -> tuple[int, str]:
    """The number and the text of the line that a byte is in."""
    number = source.count(b"\n", 0, start) + 1
    return number, source.split(b"\n")[number - 1].decode().strip()


def write_dated(path: Path, data: bytes) -> None:
    """Write a file so that every cache sees it as another one."""
    path.write_bytes(data)
    second = next(SECONDS)
    os.utime(path, (second, second))


@contextlib.contextmanager
def planted(fault: Fault, tree: Path) -> Iterator[None]:
    """The fault is in the tree while the block runs."""
    path = tree / fault.file
    source = path.read_bytes()
    write_dated(path, fault.apply(source))
    try:
        yield
    finally:
        write_dated(path, source)
