"""Stopping every other process for a moment, and never for longer.

Owns: the cgroup freezer (version 2) where there is one, and stop signals for the processes that it
does not reach. Refuses: stopping process 1, kernel threads and itself. Invariant: a guard child
knows of each cgroup and process before it is stopped, and lets all of them run again if this
process dies; what was stopped by somebody else before stays stopped.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from ramos.errors import RamosError
from ramos.guard import Guard, guarded

WAIT_SECONDS = 2.0
STEP_SECONDS = 0.001
KERNEL_THREAD_FLAG = 0x00200000
# Stopped, traced, dead; D comes to rest before it can write again.
AT_REST = "TtZXxD"
OWN_CGROUP = "ramos-save"


@contextlib.contextmanager
def freeze_others() -> Iterator[None]:
    """Everything else stands still inside the block."""
    with guarded(thaw) as guard:
        notes: list[str] = []
        home = None
        try:
            root = find_cgroup_root()
            if root is not None:
                home = _move_aside(root, guard)
                _freeze_cgroups(root, guard, notes)
            _stop_processes(guard, notes)
            yield
        finally:
            thaw(notes)
            if home is not None:
                _move_home(home)


def find_cgroup_root() -> Path | None:
    """Where the cgroup hierarchy of version 2 is mounted."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        left, _, right = line.partition(" - ")
        root = Path(left.split(" ")[4])
        if right.startswith("cgroup2 ") and (root / "cgroup.procs").exists():
            return root
    return None


def _move_aside(root: Path, guard: Guard) -> Path | None:
    """Into a cgroup of our own, so that the one we were in can be frozen."""
    own = root / OWN_CGROUP
    line = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()
    try:
        own.mkdir(exist_ok=True)
        for pid in (guard.pid, os.getpid()):
            (own / "cgroup.procs").write_text(str(pid))
    except OSError:
        return None  # a hierarchy that is not ours to change: stop signals reach everyone
    return root / line.lstrip("/")


def _move_home(home: Path) -> None:
    with contextlib.suppress(OSError):
        (home / "cgroup.procs").write_text(str(os.getpid()))


def _freeze_cgroups(root: Path, guard: Guard, notes: list[str]) -> None:
    """Freeze each top-level cgroup but ours and the one of process 1."""
    frozen = []
    for control in sorted(root.glob("*/cgroup.freeze")):
        if control.parent.name in (OWN_CGROUP, "init.scope") or control.read_text().strip() == "1":
            continue
        guard.tell(str(control))
        notes.append(str(control))
        with contextlib.suppress(OSError):
            control.write_text("1")
            frozen.append(control.with_name("cgroup.events"))
    deadline = time.monotonic() + WAIT_SECONDS
    for events in frozen:
        while events.exists() and "frozen 1" not in events.read_text():
            if time.monotonic() > deadline:
                reason = f"it did not come to rest within {WAIT_SECONDS:.0f} s"
                raise RamosError("cannot freeze", events.parent, reason, "Everything runs again")
            time.sleep(STEP_SECONDS)


def _stop_processes(guard: Guard, notes: list[str]) -> None:
    """Stop what runs in no frozen cgroup; processes that appear meanwhile are caught as well."""
    spared = {1, os.getpid(), guard.pid}
    stopped: set[int] = set()
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        moving = [pid for pid in list_processes() if pid not in spared and _is_moving(pid)]
        if not moving:
            return
        if time.monotonic() > deadline:
            reason = f"it did not stop within {WAIT_SECONDS:.0f} s"
            raise RamosError("cannot stop process", moving[0], reason, "Everything runs again")
        for pid in moving:
            if pid not in stopped:
                stopped.add(pid)
                guard.tell(str(pid))
                notes.append(str(pid))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
        time.sleep(STEP_SECONDS)


def list_processes() -> list[int]:
    """The processes there are, but for kernel threads."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _is_user(name)]


def _is_user(pid: str) -> bool:
    fields = _read_status(Path("/proc") / pid / "stat")
    return len(fields) > 6 and not int(fields[6]) & KERNEL_THREAD_FLAG


def _read_status(path: Path) -> list[str]:
    """The fields of a stat file after the name (which may hold anything), state first."""
    try:
        return path.read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _is_moving(pid: int) -> bool:
    """Whether any thread of a process can still do something."""
    if _is_frozen(pid):
        return False
    try:
        tasks = list((Path("/proc") / str(pid) / "task").iterdir())
    except OSError:
        return False
    states = [fields[0] for task in tasks if (fields := _read_status(task / "stat"))]
    return any(state not in AT_REST for state in states)


def _is_frozen(pid: int) -> bool:
    """Whether the process is in a cgroup that stands still."""
    root = find_cgroup_root()
    if root is None:
        return False
    try:
        line = (Path("/proc") / str(pid) / "cgroup").read_text().rpartition("0::")[2].strip()
        return "frozen 1" in (root / line.lstrip("/") / "cgroup.events").read_text()
    except OSError:
        return False


def thaw(notes: list[str]) -> None:
    """Let run again what the notes name, children before their parents.

    A shell that wakes before its child would see a stopped job and take the terminal back.
    """
    pids = sorted((int(note) for note in notes if note.isdigit()), reverse=True)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    for note in notes:
        if not note.isdigit():
            with contextlib.suppress(OSError):
                Path(note).write_text("0")
