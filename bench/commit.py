"""`python -m bench.commit`: what a save costs, beside the ways in which others save.

Owns: the comparison. Each way saves the same upper to an ext4 of its own on a loop device: first as
a whole, then after 1 MB and after 20 MB of changes. Bytes are those that the block device counted.
Refuses: comparing one run with another; only the ratios within a run count.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import growth, ways
from bench.files import change_tree, write_tree
from bench.measure import Cost, measured, read_file_system_bytes
from bench.pause import measure_isolated
from ramos.linux.run import find_missing
from tests.crash import mounts
from tests.crash.machine import Machine, find_device
from tests.crash.zram import read_memory_bytes

MB = 1_000_000
SAVES = {"1 MB": (1 * MB, 30), "20 MB": (20 * MB, 300)}
SEED = 20


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    upper_bytes: int
    files: int
    growth_bytes: tuple[int, ...]
    pauses: int


FULL = Scale(1000 * MB, 40_000, (100 * MB, 1000 * MB, 4000 * MB), 15)
QUICK = Scale(100 * MB, 4_000, (10 * MB, 100 * MB, 400 * MB), 5)


def read_memory(machine: Machine) -> int:
    """What the operation holds in RAM: processes, the run tmpfs, the upper."""
    held = ways.read_children_bytes() + read_file_system_bytes(machine.places.run)
    return held + (read_memory_bytes(machine.zram) if machine.zram else 0)


@contextlib.contextmanager
def started(directory: Path, upper_bytes: int) -> Iterator[Machine]:
    """A started machine whose persist is on a loop device of its own, its upper btrfs on zram."""
    with growth.persist_on_disk(directory, 4 * upper_bytes + 1000 * MB):
        machine = Machine(directory, "btrfs", 2 * upper_bytes + 1000 * MB)
        machine.boot()
        try:
            yield machine
        finally:
            machine.shut_down()


def compare_ways(scale: Scale, scratch: Path) -> dict[str, dict[str, Cost]]:
    """Every way, for every size of change."""
    costs: dict[str, dict[str, Cost]] = {name: {} for name in ways.WAYS}
    with contextlib.ExitStack() as stack:
        machine = stack.enter_context(started(scratch / "machine", scale.upper_bytes))
        say(f"writing {scale.upper_bytes // MB} MB in {scale.files} files")
        data = machine.root / "home/user/data"
        write_tree(data, scale.upper_bytes, scale.files, SEED)
        targets = {name: scratch / name for name in ways.WAYS}
        devices = {}
        for name, target in targets.items():
            where = machine.home if name == ways.ENGINE else target
            if name != ways.ENGINE:
                stack.enter_context(growth.persist_on_disk(target, 4 * scale.upper_bytes))
            devices[name] = find_device(where / "persist")
        for size in ("everything", *SAVES):
            changed = []
            if size in SAVES:
                total, count = SAVES[size]
                changed = change_tree(data, total, count, SEED + count)
            for name, way in ways.WAYS.items():
                say(f"{size}: {name}")
                persist = (machine.home if name == ways.ENGINE else targets[name]) / "persist"
                memory = lambda: read_memory(machine)  # noqa: E731
                with measured(devices[name], persist, memory) as cost:
                    cost.notes = way(machine, persist)
                costs[name][size] = cost
            if changed:
                costs[ways.ENGINE][size].notes["change_bytes"] = ways.compress(changed, scratch)
    return costs


def find_ratios(costs: dict[str, dict[str, Cost]]) -> dict[str, dict[str, float]]:
    """How many times more the other ways cost."""
    ratios: dict[str, dict[str, float]] = {}
    for size in SAVES:
        ours = costs[ways.ENGINE][size]
        for name in ways.WAYS:
            if name == ways.ENGINE:
                continue
            other = costs[name][size]
            ratios[f"{name}, {size}"] = {
                "bytes": round(other.written_bytes / ours.written_bytes, 2),
                "seconds": round(other.seconds / ours.seconds, 2),
            }
    return ratios


def show(costs: dict[str, dict[str, Cost]]) -> None:
    """The table."""
    print(f"{'':14}{'save':12}{'seconds':>9}{'written':>14}{'extra RAM':>12}")
    for name, sizes in costs.items():
        for size, cost in sizes.items():
            ram = f"{cost.ram_bytes / MB:.0f} MB"
            written = f"{cost.written_bytes / MB:.2f} MB"
            print(f"{name:14}{size:12}{cost.seconds:9.2f}{written:>14}{ram:>12}")


def say(text: str) -> None:
    """Progress, where someone looks."""
    if sys.stderr.isatty():
        print(f"bench.commit: {text}", file=sys.stderr)


def run(options: argparse.Namespace, scratch: Path) -> None:
    """Measure everything and print it."""
    scale = QUICK if options.quick else FULL
    costs = compare_ways(scale, scratch)
    pauses = measure_isolated(scale.pauses, scratch / "pause")
    say("growth")
    grown = growth.measure_growth(scale.growth_bytes, scratch / "growth")
    ratios = find_ratios(costs)
    if options.json:
        table = {
            name: {size: vars(c) for size, c in sizes.items()} for name, sizes in costs.items()
        }
        pause_ms = round(statistics.median(pauses.pause_ms), 1)
        more = {"pause": pauses.as_dict(), "costs": table}
        print(
            json.dumps({"ratios": ratios, "growth": grown, "pause_ms": pause_ms, **more}, indent=2)
        )
        return
    show(costs)
    ours = costs[ways.ENGINE]
    for size in SAVES:
        layer, change = ours[size].written_bytes, ours[size].notes["change_bytes"]
        print(f"{size}: {layer} bytes written; the change, compressed: {change:.0f}")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio['bytes']} times the bytes, {ratio['seconds']} times the time")
    print(pauses.as_text())
    print(growth.as_text(grown))


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.commit", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument(
        "--directory", type=Path, help="where the disks are made (default: $TMPDIR)"
    )
    options = parser.parse_args(argv)
    if os.geteuid() != 0:
        print("bench.commit: needs root, for it mounts disks of its own", file=sys.stderr)
        return 2
    missing = [f"{name} (package {ways.TOOLS[name]})" for name in find_missing(ways.TOOLS)]
    if missing:
        print(f"bench.commit: this machine lacks {', '.join(missing)}", file=sys.stderr)
        return 2
    mounts.leave_host()
    with tempfile.TemporaryDirectory(prefix="ramos-bench-", dir=options.directory) as scratch:
        run(options, Path(scratch))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
