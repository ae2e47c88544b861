"""Work in a child process, so that work which hangs cannot hang its caller.

Owns: the child, the pipe it reports on, and its end. Refuses: starting other programs (`run` does
that). Invariants: a child that stops reporting is given up after `stall_seconds`, also when it
sits in a system call that nothing can interrupt; what it started goes with it.
"""

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ramos.errors import RamosError

OnProgress = Callable[[float, str], None]
Work = Callable[[OnProgress], dict[str, Any] | None]
Pulse = Callable[[], int]
END_STEPS = 20
PULSE_SECONDS = 1.0
DEFAULT_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


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
    work: Work, on_progress: OnProgress, stall_seconds: float, pulse: Pulse = lambda: 0
) -> dict[str, Any]:
    """What `work` returns (plain JSON values), or the error that it ended with.

    A `pulse` that gives another number than before counts as progress: it is asked every second,
    and the last progress is told again, for whoever measures more finely.
    """
    worker = start_worker(work)
    part, text = 0.0, ""
    try:
        last, deadline = pulse(), time.monotonic() + stall_seconds
        while True:
            ready = select.select([worker.reader], [], [], min(PULSE_SECONDS, stall_seconds))[0]
            now = pulse()
            if not ready:
                on_progress(part, text)
            if ready or now != last:
                last, deadline = now, time.monotonic() + stall_seconds
            elif time.monotonic() >= deadline:
                raise RamosError("the work hangs", "child", f"no progress for {stall_seconds:g} s")
            if not ready:
                continue
            for message in read_messages(worker):
                if "result" in message:
                    return dict(message["result"])
                part, text = float(message["part"]), str(message["text"])
                on_progress(part, text)
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
    """The child's whole life."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        for number in DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        result = work(lambda part, text: _send(writer, {"part": part, "text": text}))
        _send(writer, {"result": result or {}})
        code = 0
    except RamosError as error:
        words = [error.what, error.obj, error.reason, error.state, error.hint]
        _send(writer, {"error": words, "code": error.exit_code})
    except BaseException as error:  # whatever it was: the parent must hear of it
        words = ["a bug ended the work", type(error).__name__, str(error) or "no reason", "", ""]
        _send(writer, {"error": words, "code": 1})
    finally:
        os._exit(code)


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
