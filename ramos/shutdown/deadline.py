"""The machine ends in time, whatever hangs on its way down.

Owns: a child that switches the machine off when nothing else has, and no disk moves any more.
Refuses: every file system but /run, /proc and /dev: it acts when those of disks do not answer.
Invariants: there is one at a time; it runs from RAM alone, outside of every service, so that it
outlives them.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from ramos import layout
from ramos.linux import syscalls, terminals
from ramos.linux.child import start_child

PID_FILE = layout.RUN_DIR / "deadline.pid"
SYSTEMD_MARK = Path("/run/systemd/system")
DISKSTATS = Path("/proc/diskstats")
NO_DISKS = ("loop", "zram", "ram", "dm-")
LOOK_SECONDS = 2.0
SYNC_SECONDS = 4.0
ROOT_GROUP = Path("/sys/fs/cgroup/cgroup.procs")


def count_sectors() -> int:
    """All that real disks have read and written."""
    total = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in DISKSTATS.read_text(encoding="ascii").splitlines():
            words = line.split()
            if not words[2].startswith(NO_DISKS):
                total += int(words[5]) + int(words[9])
    return total


def start_deadline(
    seconds: float,
    end: Callable[[], None] | None = None,
    pid_file: Path = PID_FILE,
    count: Callable[[], int] = count_sectors,
) -> int:
    """The machine ends when no disk has moved for so long; the process that sees to it."""
    cancel_deadline(pid_file)
    child = start_child(lambda: _be_deadline(seconds, count, end or switch_off))
    with contextlib.suppress(OSError):
        pid_file.parent.mkdir(parents=True, exist_ok=True)
        pid_file.write_text(f"{child}\n", encoding="ascii")
    return child


def cancel_deadline(pid_file: Path = PID_FILE) -> None:
    """Somebody is at work who has limits of their own."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(pid_file.read_text(encoding="ascii")), signal.SIGKILL)
        pid_file.unlink()


def _be_deadline(seconds: float, count: Callable[[], int], end: Callable[[], None]) -> None:
    """The child's whole life."""
    signal.set_wakeup_fd(-1)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # The last stage of systemd waits for whoever ignores it, and has limits of its own.
    obeys = SYSTEMD_MARK.exists()
    signal.signal(signal.SIGTERM, signal.SIG_DFL if obeys else signal.SIG_IGN)
    leave_service()
    syscalls.lock_memory()
    await_stillness(seconds, count)
    end()


def await_stillness(seconds: float, count: Callable[[], int]) -> None:
    """As long as any disk reads or writes, others are at work: a slow disk takes its time."""
    last, left = count(), seconds
    while left > 0:
        pause = min(left, LOOK_SECONDS)
        time.sleep(pause)
        now = count()
        left = left - pause if now == last else seconds
        last = now


def switch_off() -> None:
    """Tell the consoles, flush the disks that still answer, and end."""
    text = "nothing more happens on the way down: switching the machine off"
    terminals.tell_everyone(text, terminals.list_consoles())
    start_child(os.sync)
    await_stillness(SYNC_SECONDS, count_sectors)
    syscalls.power_off()


def leave_service() -> None:
    """Out of the control group of the service that started us: it ends with the service."""
    with contextlib.suppress(OSError):
        ROOT_GROUP.write_text(f"{os.getpid()}\n", encoding="ascii")
