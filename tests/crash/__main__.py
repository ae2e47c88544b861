"""`python3 -m tests.crash --states 1000`: cut the power everywhere, and count what comes up.

Owns: the command line and the histogram. Exit status 1 when any state is neither the old nor the
new one, or when nothing was interrupted; with --control, when that is *not* found out.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.crash import mounts, shim
from tests.crash.proof import OUTCOMES, Tally, prove
from tests.crash.workloads import WORKLOADS, record

SHOWN_FAILURES = 10
EPILOG = """examples:
  python3 -m tests.crash --states 1000
  python3 -m tests.crash --states 5000 --seed 7 --workload commit --json
  python3 -m tests.crash --states 300 --control fsync    the engine without fsync must be caught
  python3 -m tests.crash --states 300 --control flushes  so must a stick that ignores flushes
"""


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.crash",
        description="Cut the power at every point of a save, and count what comes up.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--states", type=int, default=1000, help="how many states in all")
    parser.add_argument("--seed", type=int, default=1, help="chooses the random states")
    parser.add_argument("--workload", choices=sorted(WORKLOADS), action="append", default=[])
    parser.add_argument("--control", choices=("fsync", "flushes"), help="break it on purpose")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes")
    parser.add_argument("--json", action="store_true", help="print one object, no table")
    return parser.parse_args(argv)


def run_workloads(options: argparse.Namespace, scratch: Path) -> dict[str, Tally]:
    """Record and prove each workload, and show each as it is done."""
    names = options.workload or sorted(WORKLOADS)
    tallies = {}
    for n, name in enumerate(names):
        directory = scratch / name
        recording = record(WORKLOADS[name](), directory)
        if options.control == "flushes":
            recording = recording.without_flushes()
        count = options.states // len(names) + (n < options.states % len(names))
        tallies[name] = prove(recording, options.seed, count, directory, options.jobs)
        if not options.json:
            show(name, tallies[name])
    return tallies


def show(name: str, tally: Tally) -> None:
    """One workload's part of the histogram."""
    print(f"{name}: {tally.records} records, {tally.flushes} flushes, {tally.tried} states")
    for outcome in OUTCOMES:
        count, during = tally.outcomes[outcome], tally.interrupted[outcome]
        bar = "#" * round(50 * count / max(1, tally.tried))
        print(f"  {outcome:8}{count:6}  ({during} cut during a step)  {bar}")
    rungs = ", ".join(f"{count} after {rung}" for rung, count in tally.rungs.most_common())
    print(f"  came up: {rungs}", flush=True)
    for line in tally.failures[:SHOWN_FAILURES]:
        print(f"  neither: {line}")


def report(options: argparse.Namespace, tallies: dict[str, Tally]) -> int:
    """The sum, the last line and the exit status."""
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    counts = " ".join(f"{name} {total.outcomes[name]}" for name in OUTCOMES)
    problem = total.failure
    if options.json:
        parts = {name: tally.as_dict() for name, tally in tallies.items()}
        print(json.dumps({**total.as_dict(), "seed": options.seed, "workloads": parts}, indent=2))
    else:
        print(f"states {total.tried} {counts}", flush=True)
    if options.control:
        caught = total.outcomes["neither"] > 0
        print("the lab found it out" if caught else "NOT found out", file=sys.stderr)
        return 0 if caught else 1
    if problem:
        print(f"tests.crash: {problem}", file=sys.stderr)
    return 1 if problem else 0


def main(argv: list[str]) -> int:
    """Record, replay, judge, count."""
    options = parse_arguments(argv)
    if os.geteuid() != 0:
        print("tests.crash: needs root, for it mounts the disks it makes", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="ramos-crash-") as scratch:
        if options.control == "fsync" and shim.find_shim() is None:
            command = [sys.executable, "-m", "tests.crash", *argv]
            return shim.run_preloaded(command, "nosync", Path(scratch), Path("/"))
        mounts.leave_host()
        mounts.mount("ramos-crash", Path(scratch), "tmpfs")
        try:
            return report(options, run_workloads(options, Path(scratch)))
        finally:
            mounts.unmount(Path(scratch), mounts.MNT_DETACH)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
