"""After a power cut during the upgrade of a kernel: recovering, and the upgrade once more.

Owns: running that in a user-mode Linux, on the disks that cuts have left, and cuts during it.
Refuses: leniency; a stick must boot at each point, and in the end hold the new kernel, on trial,
and nothing that was left behind (see `recovery_inside`).
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.errors import RamosError
from tests.crash import bases, mounts, uml
from tests.crash.bases import Base
from tests.crash.check import bring_up
from tests.crash.device import plugged
from tests.crash.log import WriteLog
from tests.crash.recovery_inside import PLAN, UPGRADE, VERDICTS
from tests.crash.replay import materialize
from tests.crash.states import State, draw_state, list_systematic, volatile
from tests.crash.upgrade import DISK, read_esp

PROGRAM = "tests.crash.recovery_inside"
# A user-mode Linux has names for so many disks of ours (/dev/vda to /dev/vdz).
MOST_DISKS = 26


@dataclass(frozen=True)
class Outcome:
    """What came of one state: why it is bad, or nothing."""

    state: State
    problem: str


def list_steps(log: WriteLog) -> list[int]:
    """Where a step ends: each flush after which the journal or a kernel has changed its phase."""
    signs = (b"ramos-transaction=1", b"COMPLETE   ", b"# GRUB Environment Block")
    steps = []
    for at, record in enumerate(log.records):
        if record.kind == "write" and any(sign in record.data for sign in signs):
            steps.append(next(f for f in log.flushes if f > at) + 1)
    return sorted(set(steps))


def list_half_made(base: Base, log: WriteLog) -> list[State]:
    """The new kernel's directory has got its name, and only some of what else makes a directory.

    On Linux nobody can look at such a name, delete it or make the directory anew.
    """
    in_long_name = base.new[5:11].encode("utf-16-le")
    named = next(at for at, r in enumerate(log.records) if in_long_name in r.data)
    return [
        state
        for state in list_systematic(log)
        if state.durable <= named and any(piece.record == named for piece in state.pieces)
    ]


def choose_states(base: Base, log: WriteLog, seed: int, count: int) -> list[State]:
    """The ends of all steps, a directory half made, then so many random states of the upgrade."""
    begin, end = (at for at, record in enumerate(log.records) if record.kind == "mark")
    chance = random.Random(seed)
    cuts = [cut for cut in list_steps(log) if begin < cut <= end]
    found = [State(cut, volatile(log, cut)[0], (), "end of a step") for cut in cuts]
    found += list_half_made(base, log)
    wanted = len(found) + count
    while len(found) < wanted:
        state = draw_state(log, chance)
        if begin < state.cut <= end:
            found.append(state)
    return found


def go_on(
    base: Base, log: WriteLog, found: Sequence[State], scratch: Path, plan: str = "recover"
) -> list[Outcome]:
    """Recover (or upgrade too) on the disk of each state; then look as GRUB, the boot and the
    package manager do."""
    outcomes = []
    for first in range(0, len(found), MOST_DISKS):
        share = scratch / f"batch{first}"
        share.mkdir(parents=True)
        batch = found[first : first + MOST_DISKS]
        disks = [share / f"disk{n:02d}" for n in range(len(batch))]
        for state, disk in zip(batch, disks, strict=True):
            materialize(log, state, disk)
        bases.prepare(base, share)
        (share / PLAN).write_text(plan)
        uml.run_inside(PROGRAM, disks, share)
        verdicts = (share / VERDICTS).read_text().split("\0")
        for state, disk, verdict in zip(batch, disks, verdicts, strict=True):
            wanted = (base.new,) if plan == UPGRADE else ()
            problem = verdict or look(disk, share / "mnt", wanted)
            problem = problem or check_repository(base, disk, share / "mnt")
            outcomes.append(Outcome(state, problem))
            disk.unlink()
    return outcomes


def record(base: Base, log: WriteLog, scratch: Path) -> WriteLog:
    """The log of undoing an upgrade that was cut when its kernel was complete, and of another."""
    cut = list_steps(log)[1]
    state = State(cut, volatile(log, cut)[0], (), "end of a step")
    disk = scratch / "stick.img"
    scratch.mkdir(parents=True)
    materialize(log, state, disk)
    bases.prepare(base, scratch)
    (scratch / PLAN).write_text(UPGRADE)
    with plugged(disk, scratch / "stick") as stick:
        uml.run_inside(PROGRAM, [stick.disk], scratch)
        assert (scratch / VERDICTS).read_text() == ""
        return stick.read_log()


def look_at_all(log: WriteLog, found: Iterable[State], scratch: Path) -> list[Outcome]:
    """Whether the stick boots, whichever of these states a cut leaves."""
    disk = scratch / "disk"
    outcomes = []
    for state in found:
        materialize(log, state, disk)
        outcomes.append(Outcome(state, look(disk, scratch / "mnt", ())))
    return outcomes


def check_repository(base: Base, disk: Path, target: Path) -> str:
    """Why the package manager would not take the stick's repository; nothing when all is well."""
    with mounts.mounted(disk, target, start_bytes=DISK.persist_start):
        return base.check_repository(target / layout.PACKAGES_DIR, target.parent)


def look(disk: Path, target: Path, wanted: tuple[str, ...]) -> str:
    """Why this disk does not boot, or does not boot the wanted kernel; nothing when all is well."""
    target.mkdir(exist_ok=True)
    try:
        esp = read_esp(disk)
    except (ValueError, RamosError) as error:
        return f"ESP: {error}"
    _, found, reason = bring_up(disk, target, DISK.persist_start)
    if found is None:
        return f"persist: {reason}"
    if wanted and esp.chosen not in wanted:
        return f"GRUB starts {esp.chosen}"
    missing = [n for n in {esp.chosen, esp.good} if layout.modules_image(n) not in found.files]
    return f"no generation names the modules of {missing}" if missing else ""
