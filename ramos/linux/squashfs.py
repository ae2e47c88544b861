"""Running mksquashfs: every image that is made on a stick is made here.

Owns: the limits it runs under, what it may complain of, its end. Refuses: choosing its options.
Invariants: any complaint fails, for it stores what it cannot read as empty; it is gone when we are,
and when what it writes to is.
"""

import contextlib
import ctypes
import math
import os
import re
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ramos.errors import RamosError
from ramos.linux import run
from ramos.linux.freeze import read_status
from ramos.sizes import format_size

PR_SET_PDEATHSIG = 1
# Squashfs cannot hold POSIX ACLs; they are in the sidecar, so this is no loss.
HARMLESS = re.compile(r"Unrecognised xattr prefix (system\.posix_acl_(access|default)|btrfs\..*)")
DEFAULT_STAYS = "The default is what it was"
SHOWN_COMPLAINTS = 3
LOOK_SECONDS = 1.0
STUCK_SECONDS = 10.0


class NoRoomError(RamosError):
    """An image would be larger than it may be."""


def run_squashfs(
    argv: list[str | Path],
    target: Path,
    max_bytes: int,
    feed: Callable[[int], None] | None = None,
    harmless: "re.Pattern[str]" = HARMLESS,
    stuck_seconds: float = STUCK_SECONDS,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a squashfs tool under a limit for its output; with `feed`, its input is written by us.

    Any complaint of it is a failure: it stores what it cannot read as empty.
    """
    complaints: list[str] = []
    stdin = run.DEVNULL if feed is None else run.PIPE
    with (
        run.started(argv, env, stdin=stdin, preexec_fn=_limits(max_bytes)) as process,
        _ended_if_stuck(process, target, stuck_seconds if feed is None else math.inf) as stuck,
    ):
        if feed is not None:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                feed(process.stdin.fileno())
            process.stdin.close()
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace").strip()
            if line and not harmless.fullmatch(line):
                complaints.append(line)
        code = process.wait()
    if code == 0 and not complaints:
        return
    if stuck.is_set():
        complaints.append("it stands still, or what it writes to is gone")
    if code == -signal.SIGXFSZ or any("File too large" in line for line in complaints):
        reason = f"the layer would be larger than the {format_size(max_bytes)} that may be used"
        hint = "'ramos prune' frees space; save.reserve_mib is never used."
        raise NoRoomError("cannot write", target.parent, reason, DEFAULT_STAYS, hint)
    said = " | ".join(complaints[:SHOWN_COMPLAINTS]) or f"it ended with status {code}"
    raise RamosError("cannot build a layer with", os.fsdecode(argv[0]), said, DEFAULT_STAYS)


@contextlib.contextmanager
def _ended_if_stuck(
    process: run.Process, target: Path, seconds: float
) -> Iterator[threading.Event]:
    """End a tool that writes to a device that is gone, or whose threads wait for each other.

    mksquashfs does where a write fails. Waiting for a disk that is there does not count, however
    long it takes.
    """
    done, stuck = threading.Event(), threading.Event()
    number = target.parent.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    was_there = device.exists()

    def watch() -> None:
        last, left = "", seconds
        while left > 0 and device.exists() == was_there:
            if done.wait(min(left, LOOK_SECONDS)):
                return
            now = _read_sleep(process.pid)
            left = left - LOOK_SECONDS if now and now == last else seconds
            last = now
        stuck.set()
        process.kill()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield stuck
    finally:
        done.set()
        watcher.join()


def _read_sleep(pid: int) -> str:
    """What the threads of a process have used of the processors; nothing if one does not sleep."""
    used = []
    with contextlib.suppress(OSError):
        for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
            fields = read_status(task / "stat")
            if not fields or fields[0] != "S":
                return ""
            used.append(f"{fields[11]}+{fields[12]}")
    return " ".join(used)


def _limits(max_bytes: int) -> Callable[[], None]:
    """What the tool gets from us: an end when we end, and a largest size of its output.

    That is for us alone: files in it may be.
    """

    def prepare() -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.umask(0o077)
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))

    return prepare
