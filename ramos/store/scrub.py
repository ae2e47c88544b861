"""Reading everything that is stored and comparing it with what was saved.

Owns: which files are looked at, and the priority that this runs at. Refuses: repairing. Invariants:
a damaged file is reported with the generations that need it, while another one may still be whole;
no lock is held (it takes long), and a file that was pruned meanwhile is not damage.
"""

import contextlib
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ramos.errors import RamosError
from ramos.layout import Places
from ramos.progress import OnProgress, Progress
from ramos.store import records
from ramos.store.generations import find_damage, read_all

NICE_STEPS = 19


@dataclass(frozen=True)
class ScrubReport:
    """What a scrub read, and what it found."""

    files: int
    bytes_read: int
    seconds: float
    damaged: tuple[str, ...]


def be_idle() -> None:
    """Let everything else on the machine, and on the stick, come first."""
    import psutil  # only here: the daemon's own process has no need of it

    with contextlib.suppress(OSError, AttributeError):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
        os.nice(NICE_STEPS)


def scrub(persist: Path, on_progress: OnProgress) -> ScrubReport:
    """Look at every file that any generation names, once."""
    started = time.monotonic()
    generations, bad = read_all(persist)
    damaged = [f"{item.path}: {item.reason}" for item in bad]
    files = {file.path: file for generation in generations for file in generation.files}
    users: dict[str, list[str]] = {}
    for generation in generations:
        for file in generation.files:
            users.setdefault(file.path, []).append(str(generation.number))
    total = sum(file.size_bytes for file in files.values())
    done = 0
    for path, file in sorted(files.items()):
        on_progress(Progress("reading", done, total, path))
        damage = find_damage(persist, file)
        if damage is not None and path in _list_paths(persist):
            needed = ", ".join(users[path][-5:])
            damaged.append(f"{path}: {damage.reason} (needed by generation {needed})")
        done += file.size_bytes
    on_progress(Progress("reading", total, total))
    return ScrubReport(len(files), done, round(time.monotonic() - started, 1), tuple(damaged))


def scrub_and_note(places: Places, on_progress: OnProgress) -> ScrubReport:
    """A scrub at idle priority, with a record of it."""
    be_idle()
    report = scrub(places.persist, on_progress)
    records.note("scrubs", records.find_records(places), **asdict(report))
    return report


def scrub_on_schedule(on_progress: OnProgress, places: Places) -> None:
    """A scrub that nobody looks at: damage is an error."""
    report = scrub_and_note(places, on_progress)
    if report.damaged:
        raise RamosError("damaged", report.damaged[0], f"{len(report.damaged)} in all")


def _list_paths(persist: Path) -> set[str]:
    """The files that the generations name now."""
    return {file.path for generation in read_all(persist)[0] for file in generation.files}
