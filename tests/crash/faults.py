"""`python3 -m tests.crash.faults`: make saves fail in every way there is, and look what is left.

Owns: the groups of faults and their command line. After each fault the default must be what it was
(after a kill: what it was or the new one), the store whole, and the next save must work, leave no
litter, and hold exactly what the running system shows.
"""

import argparse
import contextlib
import errno
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ramos.progress import quiet
from ramos.save import compact
from ramos.save.commit import CRASH_POINTS
from ramos.save.history import rollback
from tests.crash import mounts, shim, sticks
from tests.crash.rig import CONFIG, Case, Rig, describe, nothing, rigged, set_crash_point

KILLS = 50
CASES_A_RIG = 25
# Points that only one kind of upper passes.
BTRFS_ONLY = ("snapshot-taken",)
T = TypeVar("T")
# Of the calls, only each Nth fails: for a run that has to be short.
EVERY_VARIABLE = "RAMOS_FAULTS_EVERY"
WORDS = ("killed", "saved", "flipped")
PUBLISHING = ("generation-written", "generation-renamed", "generation-published")
OTHER_POINTS = [
    *(("compact", point) for point in (*compact.CRASH_POINTS, *PUBLISHING)),
    *(("rollback", point) for point in ("rollback-checked", *PUBLISHING)),
]
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}


def deal(scratch: Path, kind: str, cases: Sequence[T], seed: int) -> Iterator[tuple[Rig, T]]:
    """The cases, each with a rig; after some of them comes a fresh one."""
    for start in range(0, len(cases), CASES_A_RIG):
        home = Path(tempfile.mkdtemp(dir=scratch))
        with rigged(home, seed + start, kind) as rig:
            for case in cases[start : start + CASES_A_RIG]:
                yield rig, case
        (home / "image").unlink()


def kill_at_points(scratch: Path, seed: int) -> Iterator[Case]:
    """SIGKILL at each named step, for both kinds of upper."""
    for kind in ("btrfs", "tmpfs"):
        points = [name for name in CRASH_POINTS if kind == "btrfs" or name not in BTRFS_ONLY]
        for rig, point in deal(scratch, kind, points, seed):
            yield kill_at(rig, point, kind)
    for rig, (verb, point) in deal(scratch, "tmpfs", OTHER_POINTS, seed):
        yield kill_verb(rig, verb, point)


def kill_at(rig: Rig, point: str, kind: str) -> Case:
    """One named step; pruning needs a layer that nothing names any more."""
    full = point == "prune-layer"
    for _ in range(3 if full else 0):
        rig.change()
        rig.save(full=True)
    rig.change()
    before = max(rig.numbers())
    attempt = rig.attempt(set_crash_point(point), full=full)
    problem = rig.examine(before, allow_new=True)
    if not attempt.killed:
        problem = problem or f"the save never came to {point}"
    return Case(f"kill at {point}, {kind}", describe(attempt), problem)


def kill_verb(rig: Rig, verb: str, point: str) -> Case:
    """One named step of a compaction or a rollback."""
    for _ in range(2):
        rig.change()
        rig.save()
    before, places = max(rig.numbers()), rig.machine.places
    actions: dict[str, Callable[[], object]] = {
        "compact": lambda: compact.compact(places, CONFIG, everything=True, on_progress=quiet),
        "rollback": lambda: rollback(places, None, quiet),
    }
    attempt = rig.attempt(set_crash_point(point), action=actions[verb])
    problem = rig.examine(before, allow_new=True)
    if not attempt.killed:
        problem = problem or f"it never came to {point}: {attempt.message}"
    return Case(f"kill at {point} of {verb}", describe(attempt), problem)


def kill_at_times(scratch: Path, seed: int) -> Iterator[Case]:
    """SIGKILL at random times of a save."""
    chance = random.Random(seed)
    usual = 0.1
    for rig, number in deal(scratch, "btrfs", range(KILLS), seed):
        rig.change()
        before = max(rig.numbers())
        after = chance.uniform(0, usual)
        attempt = rig.attempt(nothing, kill_after=after)
        if not attempt.killed:
            usual = 0.7 * usual + 0.3 * attempt.seconds
        problem = rig.examine(before, allow_new=True)
        yield Case(f"kill {number} after {after:.4f} s", describe(attempt), problem)


def fail_calls(scratch: Path, seed: int) -> Iterator[Case]:
    """EIO and ENOSPC at each call of a save that writes: one call, or the stick's from there on."""
    tool = shim.find_shim()
    assert tool is not None, "this group runs under the shim"
    with rigged(scratch / "count", seed) as rig:
        counts = {last: count_calls(tool, rig, stick=last) for last in (False, True)}
    faults = [
        (number, kind, last)
        for last in (False, True)
        for kind in ERRORS
        for number in range(1, counts[last] + 1)
    ]
    every = int(os.environ.get(EVERY_VARIABLE, "1"))
    for rig, (number, kind, last) in deal(scratch, "btrfs", faults[seed % every :: every], seed):
        yield fail_call(tool, rig, number, kind, last)


def count_calls(tool: shim.Shim, rig: Rig, *, stick: bool) -> int:
    """How many calls of a save can fail."""
    rig.change()
    tool.arm(stick=stick)
    assert rig.attempt(nothing).exit_code == 0
    tool.disarm()
    return len(tool.read_trace())


def fail_call(tool: shim.Shim, rig: Rig, at: int, kind: str, last: bool) -> Case:
    """One call fails; or all from that one on, on the stick."""
    rig.change()
    before = max(rig.numbers())
    tool.arm(at, ERRORS[kind], last=last, stick=last)
    attempt = rig.attempt(nothing)
    tool.disarm()
    calls = tool.read_trace()
    call = calls[at - 1].split()[2] if len(calls) >= at else "none"
    name = f"{kind} at call {at} ({call}){' and all later ones' if last else ''}"
    unsure = attempt.exit_code == 1 and "shows at the next boot" in attempt.message
    problem = rig.examine(before, allow_new=attempt.exit_code == 0 or unsure)
    if attempt.exit_code not in (0, 1):
        problem = problem or f"exit status {attempt.exit_code}: {attempt.message}"
    return Case(name, describe(attempt), problem)


GROUPS: dict[str, Callable[[Path, int], Iterator[Case]]] = {
    "points": kill_at_points,
    "times": kill_at_times,
    "calls": fail_calls,
    "full": sticks.fill_up,
    "readonly": sticks.mount_read_only,
    "stick": sticks.break_stick,
    "lies": sticks.lie,
    "bits": sticks.flip_bits,
}


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.crash.faults", description=__doc__)
    parser.add_argument(
        "group", nargs="*", choices=[[], *GROUPS], metavar="GROUP", help=f"of {', '.join(GROUPS)}"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one object, no lines")
    parser.add_argument("--verbose", action="store_true", help="every case, not only bad ones")
    options = parser.parse_args(argv)
    if unknown := set(options.group) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    return options


def run_group(name: str, options: argparse.Namespace, scratch: Path) -> list[Case]:
    """All cases of a group, shown as they come."""
    (scratch / name).mkdir()
    cases = []
    for case in GROUPS[name](scratch / name, options.seed):
        cases.append(case)
        if (case.problem or options.verbose) and not options.json:
            print(f"{name}: {case.name}: {case.ended}: {case.problem or 'well'}", flush=True)
    return cases


def main(argv: list[str]) -> int:
    """Run the groups asked for; exit status 1 if anything was wrong after any fault."""
    options = parse_arguments(argv)
    if os.geteuid() != 0:
        print("tests.crash.faults: needs root, for it mounts disks of its own", file=sys.stderr)
        return 2
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ramos-faults-")))
        tool = shim.find_shim()
        if tool is None:
            command = [sys.executable, "-m", "tests.crash.faults", *argv]
            (scratch / "root").mkdir()
            return shim.run_preloaded(command, "fail", scratch, scratch / "root")
        mounts.leave_host()
        scratch = tool.root
        mounts.mount("ramos-faults", scratch, "tmpfs")
        stack.callback(mounts.unmount, scratch, mounts.MNT_DETACH)
        groups = options.group or list(GROUPS)
        found = {name: run_group(name, options, scratch) for name in groups}
    return report(options, found)


def report(options: argparse.Namespace, found: dict[str, list[Case]]) -> int:
    """How many, and how they ended."""
    bad = sum(bool(case.problem) for cases in found.values() for case in cases)
    if options.json:
        print(json.dumps({name: [vars(c) for c in cases] for name, cases in found.items()}))
        return 1 if bad else 0
    for name, cases in found.items():
        words = Counter(c.ended if c.ended in WORDS else "refused" for c in cases)
        text = ", ".join(f"{count} {word}" for word, count in words.most_common())
        print(f"{name}: {len(cases)} faults ({text}), bad {sum(bool(c.problem) for c in cases)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
