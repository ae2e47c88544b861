"""What is saved when the system goes down, and how far it is.

Owns: calling the commit for the shutdown, the squashfs for a save elsewhere, and the estimate of
how far they are as a whole. Refuses: talking to anyone (`order` does). Invariant: a commit that is
done stays done, whatever goes wrong after it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ramos.booted import read_boot
from ramos.config import SaveConfig
from ramos.errors import RamosError
from ramos.layers import layer
from ramos.layers.index import NEVER, Saved
from ramos.layout import Places
from ramos.linux.beneath import make_workplace, open_folder
from ramos.linux.child import Pulse
from ramos.linux.mounts import find_mount
from ramos.progress import OnProgress, Progress
from ramos.save import commit, compact, exchange
from ramos.save.after import note_failure
from ramos.save.session import open_index, read_session, record_session
from ramos.save.snapshot import has_snapshots
from ramos.save.source import Reading, Source, open_source
from ramos.save.status import describe_left_behind
from ramos.sizes import format_count, format_size

LOCK_WAIT_SECONDS = 30.0
SECTOR_BYTES = 512
RESERVE_BYTES = 4 << 20
# How far a save usually is when a step begins, in percent; the writing in between is measured.
BEGINS = {commit.SCANNING: 2, layer.WRITING: 10, layer.READING_BACK: 75, commit.PUBLISHING: 95}
LIKELY_RATIO = 0.5


def save(places: Places, config: SaveConfig, on_progress: OnProgress) -> dict[str, Any]:
    """Commit what changed; a report in plain values."""
    request = commit.CommitRequest(
        reason="shutdown", shutdown=True, config=config, wait_seconds=LOCK_WAIT_SECONDS
    )
    report = commit.commit(places, request, on_progress)
    return {"generation": report.generation, "text": describe(report)}


def foretell(places: Places, config: SaveConfig) -> str:
    """What whoever looks should know before the save; a rollback keeps it from being made."""
    if not config.at_shutdown or places.rollback_file.exists():
        return ""
    return describe_left_behind(places)


def merge(places: Places, config: SaveConfig, on_progress: OnProgress) -> dict[str, Any]:
    """Shorten the chain when it is due; the save counts without it."""
    try:
        compact.compact_if_due(places, config, on_progress)
    except (OSError, RamosError) as error:
        note_failure(places, "compact", error)
    return {}


def describe(report: commit.CommitReport) -> str:
    """One line for the console."""
    parts = [*report.notes]
    if report.generation:
        text = (
            f"saved as generation {report.generation}: {format_count(report.files, 'file')}, "
            f"{format_size(report.layer_bytes)}, {report.seconds:.1f} s"
        )
        parts.insert(0, text)
    elif not parts:
        parts.append("nothing has changed since the last save")
    if report.entries_left_out:
        parts.append(f"NOT SAVED: {'; '.join(report.left_out)}")
    return "; ".join(parts)


def save_to(
    places: Places, config: SaveConfig, target: Path, on_progress: OnProgress
) -> dict[str, Any]:
    """Write what is not saved into a folder of another filesystem: an image, its ACLs beside it.

    What is taken, and how it is checked, is as in a save to the stick.
    """
    name = time.strftime("ramos-%Y%m%d-%H%M%S.squashfs")
    path = target / name
    on_progress(Progress(commit.SCANNING))
    try:
        space = os.statvfs(target)
        room = space.f_bavail * space.f_frsize - RESERVE_BYTES
        with (
            open_folder(target.absolute()) as parent,
            make_workplace(parent) as work,
            _open_unsaved(places, config) as source,
        ):
            if source.delta.is_empty:
                reason = "nothing has changed since the last save"
                raise RamosError("there is nothing to save to", target, reason)
            place = exchange.name_place(work)
            layer.build_layer(
                source.folder, place / "image", config, room, source.delta, on_progress
            )
            exchange.deliver(place, parent, os.fsencode(name), source.acls)
    except OSError as error:
        raise RamosError("cannot save to", path, error) from error
    return {"path": str(path), "left_out": source.delta.name_left_out()}


@contextlib.contextmanager
def _open_unsaved(places: Places, config: SaveConfig) -> Iterator[Source]:
    """What changed since this boot saved last, without a look at the stick."""
    session = read_session(places)
    is_known = session is not None and session.booted == read_boot(places).generation
    with contextlib.ExitStack() as stack:
        recorder = stack.enter_context(record_session(places))
        saved: Iterator[Saved] | None = (
            stack.enter_context(open_index(places)) if is_known else None
        )
        if saved is not None and not has_snapshots(places):
            # In a tmpfs, a write through a mapping leaves no trace in a file's times.
            saved = (entry._replace(fingerprint=NEVER) for entry in saved)
        reading = Reading(places, config, saved, recorder, since=0, live=False)
        yield stack.enter_context(open_source(reading))


def estimate(seen: Progress) -> Progress:
    """How far a save is as a whole: what it tells of itself is only which step begins."""
    return seen if seen.total else Progress(seen.step, BEGINS.get(seen.step, 0), 100, seen.detail)


def make_meter(places: Places) -> tuple[Pulse, Callable[[Progress], Progress]]:
    """A pulse (all bytes moved by persist's device), and an estimate that follows the writing."""
    mount = find_mount(places.persist)
    device = mount.device if mount else ""
    written_0 = _read_sectors(device)[1]
    space = os.statvfs(places.upper) if places.upper.exists() else None
    used = (space.f_blocks - space.f_bfree) * space.f_frsize if space else 0
    expected = max(1.0, used * LIKELY_RATIO)

    def pulse() -> int:
        return sum(_read_sectors(device))

    def follow(seen: Progress) -> Progress:
        if seen.step != layer.WRITING:
            return estimate(seen)
        begin, end = BEGINS[layer.WRITING], BEGINS[layer.READING_BACK]
        written = (_read_sectors(device)[1] - written_0) * SECTOR_BYTES
        done = min(end, begin + (end - begin) * written / expected)
        return Progress(seen.step, done, 100)

    return pulse, follow


def _read_sectors(device: str) -> tuple[int, int]:
    try:
        words = Path("/sys/dev/block", device, "stat").read_text().split()
        return int(words[2]), int(words[6])
    except (OSError, IndexError, ValueError):
        return 0, 0
