"""Child processes: one that works and reports, one that answers once, one that outlives us.

Owns: forking, the pipes, and the ends of children. Refuses: running other programs (`run` does).
Invariants: a worker that stops reporting is given up, also when it sits in a system call that
nothing can interrupt, and what it started goes with it; a forked check is gone with its block and
with its parent; a guard runs its clean-up within a moment of our death, SIGKILL included, and the
locks that we held are held until it is done. An error in a child is one here, and so is its death.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ramos.errors import RamosError
from ramos.progress import OnProgress, Progress

Work = Callable[[OnProgress], dict[str, Any] | None]
Pulse = Callable[[], int]
END_STEPS = 20
PULSE_SECONDS = 1.0
DEFAULT_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
WELL, FAILED = b"+", b"-"
PR_SET_PDEATHSIG = 1
DONE = b"done\n"
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


def start_child(life: Callable[[], None]) -> int:
    """A child that lives a life of its own; nobody hears of its errors."""
    child = os.fork()
    if child == 0:
        try:
            life()
        finally:
            os._exit(0)
    return child


@dataclass
class Worker:
    """A child at work, and the end of the pipe that it reports on."""

    child: int
    reader: int
    rest: bytes = b""


def start_worker(work: Work) -> Worker:
    """Begin; the caller reads with `read_messages` when the pipe has something."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_worker(work, writer)
    os.close(writer)
    return Worker(child, reader)


def run_worker(
    work: Work,
    on_progress: OnProgress,
    stall_seconds: float,
    pulse: Pulse = lambda: 0,
    is_unwanted: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """What `work` returns (plain JSON values), or the error that it ended with.

    A `pulse` that gives another number than before counts as progress: it is asked every second,
    and the last progress is told again, for whoever measures more finely. As often it is asked
    whether anybody wants the work still.
    """
    worker = start_worker(work)
    seen: Progress | None = None
    try:
        last, deadline = pulse(), time.monotonic() + stall_seconds
        while True:
            ready = select.select([worker.reader], [], [], min(PULSE_SECONDS, stall_seconds))[0]
            now = pulse()
            if is_unwanted():
                raise RamosError("the work was ended", "child", "it is not wanted any more")
            if not ready and seen:
                on_progress(seen)
            if ready or now != last:
                last, deadline = now, time.monotonic() + stall_seconds
            elif time.monotonic() >= deadline:
                raise RamosError("the work hangs", "child", f"no progress for {stall_seconds:g} s")
            if not ready:
                continue
            for message in read_messages(worker):
                if "result" in message:
                    return dict(message["result"])
                seen = Progress(**message["progress"])
                on_progress(seen)
    finally:
        end_worker(worker)


def read_messages(worker: Worker) -> list[dict[str, Any]]:
    """What has arrived: progress, and in the end the result; the child's error is raised."""
    chunk = os.read(worker.reader, 65536)
    if not chunk:
        raise RamosError("the work was ended", "child", "it died without a word")
    *lines, worker.rest = (worker.rest + chunk).split(b"\n")
    messages = [json.loads(line) for line in lines]
    for message in messages:
        if "error" in message:
            raise _rebuild_error(message)
    return messages


def _be_worker(work: Work, writer: int) -> None:
    """The child's whole life; how it went, its words say."""
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        for number in DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        result = work(lambda seen: _send(writer, {"progress": asdict(seen)}))
        _send(writer, {"result": result or {}})
    except RamosError as error:
        words = [error.what, error.obj, error.reason, error.state, error.hint]
        _send(writer, {"error": words, "code": error.exit_code})
    except BaseException as error:  # whatever it was: the parent must hear of it
        words = ["a bug ended the work", type(error).__name__, str(error) or "no reason", "", ""]
        _send(writer, {"error": words, "code": 1})
    finally:
        os._exit(0)


def _send(writer: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(writer, data) :]


def _rebuild_error(message: dict[str, Any]) -> RamosError:
    what, obj, reason, state, hint = message["error"]
    error = RamosError(what, obj, reason, state, hint)
    error.exit_code = int(message["code"])
    return error


def end_worker(worker: Worker) -> None:
    """Reap the child and end what it started; leave it alone when it cannot die."""
    os.close(worker.reader)
    for number in (0, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.child, number)
        for _ in range(END_STEPS):
            if os.waitpid(worker.child, os.WNOHANG)[0]:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(worker.child, signal.SIGKILL)
                return
            time.sleep(0.05)


@contextlib.contextmanager
def forked(work: Callable[[], bytes], what: str) -> Iterator[Callable[[], bytes]]:
    """Run `work` in a child beside the block; what this gives waits for the answer."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_forked(writing, parent, work)
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


def _be_forked(writing: int, parent: int, work: Callable[[], bytes]) -> None:
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


class Guard:
    """The child and the pipe on which it learns what to know, and that we are gone."""

    def __init__(self, clean: Callable[[list[str]], None]) -> None:
        reading, self._writing = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._writing)
            _be_guard(reading, clean)
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


def _be_guard(reading: int, clean: Callable[[list[str]], None]) -> None:
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
