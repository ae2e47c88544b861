"""Compaction: fewer layers, the same state.

Owns: when to compact, and publishing the shorter chain. Refuses: changing what any generation
shows. Invariant: the old chain stays valid until the new generation is durable.
"""

import contextlib
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ramos.booted import read_boot
from ramos.config import SaveConfig
from ramos.errors import UsageError
from ramos.layers.merge import merge_layers, plan_run
from ramos.layers.stack import walk_view
from ramos.layers.walk import walk
from ramos.layout import Places
from ramos.linux.child import guarded
from ramos.linux.fs import hold_lock
from ramos.linux.mounts import mount_image
from ramos.progress import OnProgress
from ramos.save.after import settle
from ramos.save.session import read_session, replace_tip
from ramos.save.space import check_room
from ramos.stick.check import check_stick
from ramos.store.generation import COMPACTED, Generation, StoredFile
from ramos.store.generations import (
    NOTHING_PRUNED,
    PruneReport,
    next_number,
    prune,
    publish_generation,
    read_default,
    sweep,
)

# Steps at which a test can kill a compaction, beside those of publishing (see commit).
CRASH_POINTS = ("merge-written", "merge-compared")


@dataclass(frozen=True)
class CompactReport:
    """What a compaction did; `generation` is 0 if there was nothing to gain."""

    generation: int
    layers_before: int
    layers_after: int
    bytes_before: int
    bytes_after: int
    seconds: float
    pruned: PruneReport = NOTHING_PRUNED


def is_due(default: Generation, config: SaveConfig) -> bool:
    """Whether a chain should be made shorter before it gets in the way of a save."""
    return len(default.layers) > max(1, config.max_layers - 2)


def compact(
    places: Places, config: SaveConfig, *, everything: bool, on_progress: OnProgress
) -> CompactReport:
    """Merge layers of the default (all of them, or as many as pays) and publish the result."""
    started = time.monotonic()
    with hold_lock(places.lock_file, "compact"):
        device = check_stick(places, read_boot(places))
        sweep(places.persist)
        default = read_default(places.persist)
        if default is None:
            raise UsageError("cannot compact", device.path, "there is no generation yet")
        sizes = [layer.size_bytes for layer in default.layers]
        start = 0 if everything else plan_run(sizes, config.max_layers // 2)
        number, after, pruned = 0, default.saved, NOTHING_PRUNED
        if len(sizes) - start > 1:
            with guarded(lambda _notes: _sweep_quietly(places)):
                after = merge_layers(
                    places.persist,
                    default.saved,
                    start,
                    config,
                    check_room(places, config),
                    places.base_dirs,
                    on_progress,
                )
            number = _publish(places, default, (*default.base, *after))
            pruned = _prune_after(places, (number, default.number), config)
        report = CompactReport(
            number,
            len(sizes),
            sum(file.kind == "layer" for file in after),
            sum(file.size_bytes for file in default.saved),
            sum(file.size_bytes for file in after),
            time.monotonic() - started,
            pruned,
        )
    if report.generation:
        settle(places, "compact", **asdict(report))
    return report


def compact_if_due(
    places: Places, config: SaveConfig, on_progress: OnProgress
) -> CompactReport | None:
    """Compact where the chain is long or hides too much; for the time when nobody waits."""
    default = read_default(places.persist)
    if default is None or len(default.layers) < 2:
        return None
    if is_due(default, config):
        return compact(places, config, everything=False, on_progress=on_progress)
    if measure_waste(places.persist, default) >= config.wasted_percent:
        return compact(places, config, everything=True, on_progress=on_progress)
    return None


def _sweep_quietly(places: Places) -> None:
    with contextlib.suppress(OSError):
        sweep(places.persist)


def _publish(places: Places, default: Generation, files: tuple[StoredFile, ...]) -> int:
    made = Generation(
        number=next_number(places.persist),
        parent=default.number,
        created=int(time.time()),
        kernel=default.kernel,
        reason=COMPACTED,
        message=default.message,
        files=files,
    )
    publish_generation(places.persist, made)
    session = read_session(places)
    if session is not None and session.tip == default.number:
        replace_tip(places, made.number)
    return made.number


def _prune_after(places: Places, newest: tuple[int, ...], config: SaveConfig) -> PruneReport:
    """Not where none was booted: nothing newer was read by a boot yet."""
    booted = read_boot(places).generation
    return prune(places.persist, config, (booted, *newest)) if booted else NOTHING_PRUNED


def measure_waste(persist: Path, default: Generation) -> int:
    """The share (percent) of the saved bytes that newer layers hide."""
    with contextlib.ExitStack() as stack:
        tops = [
            os.fsencode(stack.enter_context(mount_image(persist / layer.path)))
            for layer in default.layers
        ]
        stored = sum(_count_bytes(top) for top in tops)
        shown = _count_shown(list(reversed(tops)))
    return 100 * (stored - shown) // stored if stored else 0


def _count_bytes(top: bytes) -> int:
    return sum(e.status.st_size for e in walk(top) if stat.S_ISREG(e.status.st_mode))


def _count_shown(tops: Sequence[bytes]) -> int:
    return sum(n.status.st_size for n in walk_view(tops) if stat.S_ISREG(n.status.st_mode))
