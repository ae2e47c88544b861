"""Stopping every other process for a moment, and never for longer.

Owns: the cgroup freezer (version 2) where there is one, and stop signals for the processes that it
does not reach. Refuses: stopping process 1, kernel threads and itself. Invariants: a guard child
knows of each cgroup and process before it is stopped, and lets all of them run again if this
process dies; what was stopped by somebody else before stays stopped.

Who is told to stop runs none of its own code from then on, but may still be inside one system
call, for long if that reads a slow stick. Such a call is not waited for: what a program does next,
it does after the moment, and that is all that the moment needs.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RamosError
from ramos.linux.child import Guard, guarded

WAIT_SECONDS = 2.0
CALL_SECONDS = 0.5
STEP_SECONDS = 0.001
KERNEL_THREAD_FLAG = 0x00200000
# Stopped, traced, dead; and in a system call that nothing interrupts.
AT_REST = "TtZXx"
WAITING = "D"
OWN_CGROUP = "ramos-save"
GATHERED_CGROUP = "ramos-still"
MOVED = "moved "


@dataclass
class Pause:
    """For how long the others stood still; known when they run again."""

    seconds: float = 0.0


@contextlib.contextmanager
def freeze_others() -> Iterator[Pause]:
    """Everything else stands still inside the block."""
    with guarded(thaw) as guard:
        notes: list[str] = []
        pause, home = Pause(), None
        kernel_threads = {pid for pid in _list_pids() if _is_kernel_thread(pid)}
        started = time.monotonic()
        try:
            root = find_cgroup_root()
            still: list[str] = []
            if root is not None:
                home = _move_aside(root, guard)
                started = time.monotonic()
                _gather(root, guard, notes, kernel_threads)
                still = _freeze_cgroups(root, guard, notes)
            _stop_processes(guard, notes, still, kernel_threads)
            yield pause
        finally:
            thaw(notes)
            pause.seconds = time.monotonic() - started
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


def _gather(root: Path, guard: Guard, notes: list[str], kernel_threads: set[int]) -> None:
    """Move what runs in the root cgroup, which has no freezer, into one that is frozen already.

    A shell takes a stop signal to its child for the end of a job; this it cannot see.
    """
    # 0 stands for a process of another namespace, and for ourselves where it is written.
    spared = {0, 1, os.getpid(), guard.pid, *kernel_threads}
    folder = root / GATHERED_CGROUP
    with contextlib.suppress(OSError):
        while pids := {*map(int, (root / "cgroup.procs").read_text().split())} - spared:
            for pid in pids:
                spared.add(pid)  # one that cannot be moved gets a stop signal
                if not _is_kernel_thread(pid):
                    _move_into(folder, pid, guard, notes)


def _move_into(folder: Path, pid: int, guard: Guard, notes: list[str]) -> None:
    control = folder / "cgroup.freeze"
    if str(control) not in notes:
        folder.mkdir(exist_ok=True)
        _note(str(control), guard, notes)
        control.write_text("1")
    _note(f"{MOVED}{pid}", guard, notes)
    with contextlib.suppress(OSError):
        (folder / "cgroup.procs").write_text(str(pid))


def _note(text: str, guard: Guard, notes: list[str]) -> None:
    guard.tell(text)
    notes.append(text)


def _freeze_cgroups(root: Path, guard: Guard, notes: list[str]) -> list[str]:
    """Freeze each top-level cgroup but ours and the one of process 1; the names of all at rest."""
    controls = sorted(
        control
        for control in root.glob("*/cgroup.freeze")
        if control.parent.name not in (OWN_CGROUP, "init.scope")
    )
    for control in controls:
        if control.read_text().strip() == "1":
            continue
        _note(str(control), guard, notes)
        with contextlib.suppress(OSError):
            control.write_text("1")
    deadline = time.monotonic() + CALL_SECONDS
    for control in controls:
        events = control.with_name("cgroup.events")
        while events.exists() and "frozen 1" not in events.read_text():
            if time.monotonic() > deadline:
                break
            time.sleep(STEP_SECONDS)
    return [f"/{control.parent.name}" for control in controls]


def _stop_processes(
    guard: Guard, notes: list[str], still: list[str], kernel_threads: set[int]
) -> None:
    """Stop what runs in no frozen cgroup; processes that appear meanwhile are caught as well."""
    spared = {1, os.getpid(), guard.pid, *kernel_threads}
    stopped: set[int] = set()
    started = time.monotonic()
    while True:
        waited = time.monotonic() - started
        running = {
            pid: states
            for pid in _list_pids()
            if pid not in spared and (states := _read_running(pid, still))
        }
        late = waited > CALL_SECONDS
        if running.keys() <= stopped and all(_is_told(states, late) for states in running.values()):
            return
        if waited > WAIT_SECONDS:
            reason = f"it did not stop within {WAIT_SECONDS:.0f} s"
            raise RamosError("cannot stop process", min(running), reason, "Everything runs again")
        for pid in sorted(running.keys() - stopped):
            stopped.add(pid)
            _note(str(pid), guard, notes)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        time.sleep(STEP_SECONDS)


def _is_told(states: str, late: bool) -> bool:
    """Whether a signalled process runs none of its own code any more, though it has not stopped.

    One thread that is in a system call finds the signal at the end of it. With more, the signal
    reaches all by way of one of them, so the others must be in a long call too.
    """
    if len(states) == 1:
        return states == WAITING or late
    return late and set(states) == {WAITING}


def _list_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _is_kernel_thread(pid: int) -> bool:
    fields = read_status(Path("/proc") / str(pid) / "stat")
    return len(fields) > 6 and bool(int(fields[6]) & KERNEL_THREAD_FLAG)


def read_status(path: Path) -> list[str]:
    """The fields of a stat file after the name (which may hold anything), state first."""
    try:
        return path.read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _read_running(pid: int, still: list[str]) -> str:
    """A letter for the state of each thread that is neither stopped nor dead."""
    home = Path("/proc") / str(pid)
    try:
        if still and _is_below(home.joinpath("cgroup").read_text(), still):
            return ""
        tasks = list(home.joinpath("task").iterdir())
    except OSError:
        return ""
    states = (fields[0] for task in tasks if (fields := read_status(task / "stat")))
    return "".join(state for state in states if state not in AT_REST)


def _is_below(cgroups: str, still: list[str]) -> bool:
    """Whether a process with these cgroups is in one that stands still."""
    own = cgroups.rpartition("0::")[2].strip()
    return any(own == name or own.startswith(f"{name}/") for name in still)


def thaw(notes: list[str]) -> None:
    """Let run again what the notes name, children before their parents.

    A shell that wakes before its child would see a stopped job and take the terminal back.
    """
    pids = sorted((int(note) for note in notes if note.isdigit()), reverse=True)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    for note in notes:
        if note.startswith("/"):
            with contextlib.suppress(OSError):
                Path(note).write_text("0")
    if moved := [note.removeprefix(MOVED) for note in notes if note.startswith(MOVED)]:
        _move_back(moved)


def _move_back(pids: list[str]) -> None:
    """What was in the root cgroup is there again."""
    root = find_cgroup_root()
    if root is None:
        return
    for pid in pids:
        with contextlib.suppress(OSError):
            (root / "cgroup.procs").write_text(pid)
    with contextlib.suppress(OSError):
        (root / GATHERED_CGROUP).rmdir()
