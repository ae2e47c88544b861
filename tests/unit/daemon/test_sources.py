"""What wakes ramosd: each descriptor by what it was listened to for, until it is forgotten."""

import os
import select
from collections.abc import Iterator

import pytest

from ramos.daemon.sources import Sources


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_what_is_listened_to_wakes_the_loop(pipe: tuple[int, int]) -> None:
    sources, read = Sources(), list[bytes]()
    sources.listen(pipe[0], lambda: read.append(os.read(pipe[0], 1)))
    sources.wait(0)
    assert read == []
    os.write(pipe[1], b"x")
    sources.wait(60)
    assert read == [b"x"]


def test_only_what_was_asked_for_wakes(pipe: tuple[int, int]) -> None:
    sources, read = Sources(), list[str]()
    sources.listen(pipe[0], lambda: read.append("urgent"), select.POLLPRI)
    os.write(pipe[1], b"x")
    sources.wait(0)
    assert read == []


def test_what_is_forgotten_wakes_nobody(pipe: tuple[int, int]) -> None:
    sources, read = Sources(), list[str]()
    sources.listen(pipe[0], lambda: read.append("late"))
    sources.forget(pipe[0])
    os.write(pipe[1], b"x")
    sources.wait(0)
    assert read == []
