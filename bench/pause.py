"""How long a program stands still while a save is taken.

Owns: a writer that never rests, and the longest gap that it saw during each save. The engine's own
figure is the time for which it stopped the others; the writer's gap has the scheduler's share in it
as well. All of it runs in a process namespace of its own, for a live save stops everybody.
"""

import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from bench import growth, ways
from bench.files import change_tree, write_tree
from tests.crash.machine import Machine
from tests.labs.isolate import isolate

MB = 1_000_000
UPPER_BYTES, UPPER_FILES = 100 * MB, 4_000
CHANGE_BYTES, CHANGE_FILES = 1 * MB, 30


@dataclass(frozen=True)
class Pauses:
    """Milliseconds, one for each save."""

    pause_ms: list[float]
    writer_ms: list[float]
    calm_ms: list[float]

    def as_dict(self) -> dict[str, float]:
        """For --json."""
        return {
            "pause_median_ms": round(statistics.median(self.pause_ms), 1),
            "pause_max_ms": round(max(self.pause_ms), 1),
            "writer_median_ms": round(statistics.median(self.writer_ms), 1),
            "writer_max_ms": round(max(self.writer_ms), 1),
            "writer_without_save_ms": round(statistics.median(self.calm_ms), 1),
        }

    def as_text(self) -> str:
        """One line."""
        found = self.as_dict()
        return (
            f"pause: the others are stopped for {found['pause_median_ms']} ms (median; at most "
            f"{found['pause_max_ms']}); a program that writes all the time waits "
            f"{found['writer_median_ms']} ms at the longest ({found['writer_without_save_ms']} "
            "without a save)"
        )


def write_on(path: Path, orders: Connection) -> None:
    """Write small blocks until told to stop; each order is answered with the longest gap so far."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    last, longest, number = time.monotonic(), 0.0, 0
    while True:
        os.pwrite(descriptor, os.urandom(4096), number % 4096 * 4096)
        number += 1
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        if number % 16 == 0 and orders.poll():
            if not orders.recv():
                return
            orders.send(longest)
            longest, last = 0.0, time.monotonic()
        time.sleep(0.0005)


@contextlib.contextmanager
def busy_writer(path: Path) -> Iterator[Connection]:
    """A process that writes all the time."""
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=write_on, args=(path, theirs))
    process.start()
    try:
        yield ours
        ours.send(False)
    finally:
        process.join(5)
        process.kill()


def ask_gap(writer: Connection) -> float:
    """The longest gap since the last question, in milliseconds."""
    writer.send(True)
    gap: float = writer.recv()
    return gap * 1000


def measure_pauses(count: int, home: Path) -> Pauses:
    """Save again and again under a program that writes."""
    found = Pauses([], [], [])
    with growth.persist_on_disk(home, 2000 * MB):
        machine = Machine(home, "btrfs", 1000 * MB)
        machine.boot()
        try:
            data = machine.root / "home/user/data"
            write_tree(data, UPPER_BYTES, UPPER_FILES, 1)
            ways.save_with_engine(machine, machine.places.persist)
            with busy_writer(machine.root / "home/user/busy") as writer:
                for turn in range(count):
                    change_tree(data, CHANGE_BYTES, CHANGE_FILES, turn)
                    ask_gap(writer)
                    time.sleep(0.5)
                    found.calm_ms.append(ask_gap(writer))
                    notes = ways.save_with_engine(machine, machine.places.persist, "live")
                    found.writer_ms.append(ask_gap(writer))
                    found.pause_ms.append(notes["pause_seconds"] * 1000)
        finally:
            machine.shut_down()
    return found


def measure_isolated(count: int, home: Path) -> Pauses:
    """The same in a process namespace of its own."""
    argv = isolate([sys.executable, "-m", "bench.pause", str(count), str(home)])
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
    return Pauses(**json.loads(done.stdout))


if __name__ == "__main__":
    if os.getpid() != 1:
        sys.exit("bench.pause: it would stop this machine: bench.commit runs it where it cannot")
    sys.stdout.write(json.dumps(asdict(measure_pauses(int(sys.argv[1]), Path(sys.argv[2])))))
