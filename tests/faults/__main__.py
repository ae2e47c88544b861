"""`python3 -m tests.faults --plant 120`: plant faults, and count those that no test finds.

Owns: the command line and the report. Exit status 1 when a fault survived, or when a test fails
without any. Runs as root, for each test run has namespaces of its own.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.faults import choice
from tests.faults.choice import Drawn
from tests.faults.notes import Notes
from tests.faults.reach import Reach
from tests.faults.record import measure
from tests.faults.trees import REPOSITORY, Tree, Verdict, judge, share

TIERS = ("lint", "unit", "sh", "root")
EPILOG = """examples:
  python3 -m tests.faults --plant 120                  over all that is shipped
  python3 -m tests.faults --file ramos/linux/fs.py           before a commit: every line of one file
  python3 -m tests.faults --file ramos/linux/fs.py --line 40-60 --tiers unit,sh
  python3 -m tests.faults --plant 20 --list            only show what would be planted
"""


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.faults",
        description="Plant faults in copies of the tree, and count those that no test finds.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--plant", type=int, help="how many (default: 120; with --file, all)")
    parser.add_argument("--file", action="append", default=[], help="only there; may be repeated")
    parser.add_argument("--line", default="", help="only these lines of the file: 40 or 40-60")
    parser.add_argument("--seed", type=int, default=1, help="chooses them")
    parser.add_argument("--tiers", default=",".join(TIERS), help=f"of {', '.join(TIERS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="copies at a time")
    parser.add_argument("--json", action="store_true", help="one object, no lines")
    parser.add_argument("--list", action="store_true", help="plant nothing")
    options = parser.parse_args(argv)
    options.tiers = tuple(options.tiers.split(","))
    if unknown := set(options.tiers) - set(TIERS):
        parser.error(f"no such tier: {', '.join(sorted(unknown))}; there are {', '.join(TIERS)}")
    if missing := [name for name in options.file if name not in choice.list_files(REPOSITORY)]:
        parser.error(f"no faults go into {', '.join(missing)}: name a file as git does")
    return options


def draw_faults(options: argparse.Namespace) -> tuple[list[Drawn], list[Drawn]]:
    """Those to plant, and the equivalent ones that were drawn along the way."""
    faults = choice.list_faults(REPOSITORY, options.file or choice.list_files(REPOSITORY))
    if options.line:
        first, _, last = options.line.partition("-")
        faults = [f for f in faults if int(first) <= f.number <= int(last or first)]
    count = options.plant or (len(faults) if options.file else 120)
    real: list[Drawn] = []
    equivalent: list[Drawn] = []
    for drawn in choice.draw(faults, options.seed, REPOSITORY, choice.read_equivalents()):
        if len(real) == count:
            break
        (equivalent if drawn.reason else real).append(drawn)
    return real, equivalent


def plant_all(
    options: argparse.Namespace, real: list[Drawn], scratch: Path, show: Callable[[Verdict], None]
) -> list[Verdict]:
    """Measure the tests that could see any of the faults, then judge each fault."""
    copies = [Tree.make(scratch / str(n), REPOSITORY) for n in range(options.jobs)]
    reach = Reach(copies[0].root, options.tiers)
    tests = reach.list_candidates([drawn.fault for drawn in real])
    notes = share(copies, tests, lambda tree, test: measure(tree, test, REPOSITORY), tell)
    reach.notes.update(zip(tests, notes, strict=True))

    def work(tree: Tree, drawn: Drawn) -> Verdict:
        return judge(tree, drawn.fault, reach.select(drawn.fault), REPOSITORY)

    return share(copies, real, work, show)


def tell(notes: Notes) -> None:
    """A test that fails without any fault proves nothing."""
    for name, note in notes.items():
        if note.broken:
            print(
                f"not asked, for it fails without any fault: {name}: {note.broken}", file=sys.stderr
            )


def report(options: argparse.Namespace, verdicts: list[Verdict], equivalent: list[Drawn]) -> int:
    """What survived, what is equivalent, and the last line."""
    survived = [verdict.fault for verdict in verdicts if verdict.known and not verdict.killed]
    unknown = [verdict for verdict in verdicts if not verdict.known]
    if options.json:
        rows = [{**vars(v.fault), "text": v.fault.text.decode()} for v in verdicts]
        for row, verdict in zip(rows, verdicts, strict=True):
            row |= {"killed": verdict.killed, "known": verdict.known, "told": verdict.told}
        named = [{"fault": d.fault.describe(), "reason": d.reason} for d in equivalent]
        print(json.dumps({"seed": options.seed, "faults": rows, "equivalent": named}))
        return 1 if survived or unknown else 0
    for drawn in equivalent:
        print(f"equivalent: {drawn.fault.describe()}\n    {drawn.reason}")
    for fault in survived:
        print(f"survived: {fault.describe()}\n    becomes: {fault.text.decode()!r}")
    for verdict in unknown:
        print(f"no verdict: {verdict.fault.describe()}\n    {verdict.told}")
    judged = len(verdicts) - len(unknown)
    print(f"planted {judged} survived {len(survived)}")
    return 1 if survived or unknown else 0


def main(argv: list[str]) -> int:
    """Draw, plant, count."""
    options = parse_arguments(argv)
    real, equivalent = draw_faults(options)
    if options.list:
        for drawn in [*real, *equivalent]:
            fault = drawn.fault
            print(f"{fault.describe()}\n    becomes: {fault.text.decode()!r} {drawn.reason}")
        return 0
    if os.geteuid() != 0:
        print("tests.faults: needs root, for each test has namespaces of its own", file=sys.stderr)
        return 2
    done = 0

    def show(verdict: Verdict) -> None:
        nonlocal done
        done += 1
        word = "killed" if verdict.killed else "SURVIVED" if verdict.known else "NO VERDICT"
        told = f" by {verdict.told}" if verdict.told else ""
        line = f"[{done}/{len(real)}] {word}: {verdict.fault.describe()}{told}"
        print(line, file=sys.stderr, flush=True)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cache = REPOSITORY / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="faults-", dir=cache) as scratch:
        return report(options, plant_all(options, real, Path(scratch), show), equivalent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
