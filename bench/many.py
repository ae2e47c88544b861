"""`python -m bench.many`: a save of very many small files, and a small one after it.

Owns: an upper of 200,000 entries in a tree like a home directory's: half of the files hold a few
bytes, the rest some KB; among them hard links, symlinks and xattrs. Time, bytes written and RAM are
those of the saving process and the tools that it starts; the upper and the stage are not counted,
nor is the page cache.
"""

import argparse
import contextlib
import os
import random
import sys
import tempfile
from pathlib import Path

from bench import growth, ways
from bench.measure import measured
from tests.crash import mounts
from tests.crash.machine import Machine, find_device

MB = 1_000_000
FILES_A_FOLDER = 25
CHANGED = 30
LARGEST_BYTES = 60_000


def write_small_files(root: Path, count: int, seed: int) -> list[Path]:
    """Fill a directory; the files with content of their own."""
    chance = random.Random(seed)
    noise = chance.randbytes(1 << 20)
    files: list[Path] = []
    for number in range(count):
        folder = root / f"{number // FILES_A_FOLDER // 400:03d}/{number // FILES_A_FOLDER:05d}"
        if number % FILES_A_FOLDER == 0:
            folder.mkdir(parents=True)
        path, kind = folder / f"file-{number:06d}", chance.random()
        if kind < 0.02 and files:
            path.symlink_to(files[-1])
        elif kind < 0.04 and files:
            os.link(files[-1], path)
        else:
            small = chance.random() < 0.5
            size = 5 if small else min(int(chance.lognormvariate(6.5, 1.2)), LARGEST_BYTES)
            start = chance.randrange(len(noise) - LARGEST_BYTES)
            path.write_bytes(noise[start : start + size])
            if kind > 0.99:
                os.setxattr(path, "user.mark", b"%d" % number)
            files.append(path)
    return files


def measure_save(machine: Machine, name: str) -> None:
    """One save, and a line about it."""
    persist = machine.places.persist
    with measured(find_device(persist), persist, ways.read_children_bytes) as cost:
        notes = ways.save_with_engine(machine, persist)
    ram, written = cost.ram_bytes / MB, cost.written_bytes / MB
    print(
        f"{name}: {notes['files']:.0f} files, {cost.seconds:.1f} s, {written:.2f} MB written, "
        f"{ram:.0f} MB of extra RAM, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def run(options: argparse.Namespace, scratch: Path) -> None:
    """Measure a first save, and one of 30 changed files."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(growth.persist_on_disk(scratch / "machine", 4000 * MB))
        machine = Machine(scratch / "machine", "btrfs", 4000 * MB)
        machine.boot()
        stack.callback(machine.shut_down)
        files = write_small_files(machine.root / "home/user/data", options.files, 1)
        measure_save(machine, "everything")
        for path in random.Random(2).sample(files, CHANGED):
            path.write_text(f"changed {path}")
        measure_save(machine, "small")


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.many", description=__doc__)
    parser.add_argument("--files", type=int, default=200_000)
    options = parser.parse_args(argv)
    if os.geteuid() != 0:
        print("bench.many: needs root, for it mounts disks of its own", file=sys.stderr)
        return 2
    mounts.leave_host()
    with tempfile.TemporaryDirectory(prefix="ramos-bench-") as scratch:
        run(options, Path(scratch))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
