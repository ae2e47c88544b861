"""What a commit reads: one directory that holds exactly what is to be saved, and does not change.

Owns: the choice between a snapshot (btrfs), hard links (a tmpfs when nothing else runs) and a copy
(a live tmpfs); in a live system everything else stands still until that is taken. Refuses: reading
a tree that others may change meanwhile.
Invariant: when the block ends, however it ends, no snapshot and no stage is left.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ramos.config import SaveConfig
from ramos.errors import RamosError
from ramos.layers.acls import collect_acls
from ramos.layers.index import IndexWriter, Saved
from ramos.layers.stack import Node, find_node
from ramos.layers.stage import (
    Placer,
    edit_snapshot,
    fill_stage,
    list_needed_folders,
    move_entry,
    remove_stage,
)
from ramos.layers.walk import DIRECTORIES, OPAQUE, Delta, Scanner, show_folder
from ramos.layout import Places
from ramos.linux.btrfs import list_changed
from ramos.linux.freeze import Pause, freeze_others
from ramos.linux.fs import crash_point
from ramos.save.diff import list_details
from ramos.save.reserve import Lift, lifting_limits, measure_free, measure_spare_memory
from ramos.save.session import Recorder
from ramos.save.snapshot import COARSE_CLOCK, has_snapshots, take_snapshot
from ramos.sizes import format_size


@dataclass(frozen=True)
class Source:
    """What is to be saved: where it stands, what it is, and what taking it cost."""

    folder: Path
    delta: Delta
    acls: bytes
    pause_seconds: float
    method: str
    birth: int = 0
    moment_ns: int = 0


@dataclass(frozen=True)
class Reading:
    """What is to be read: the changes since `saved`, or all of this boot without it.

    `since` is the transaction of btrfs with which they begin, where it is known; `live` means that
    others run meanwhile.
    """

    places: Places
    config: SaveConfig
    saved: Iterable[Saved] | None
    recorder: Recorder
    since: int
    live: bool


@contextlib.contextmanager
def open_source(reading: Reading) -> Iterator[Source]:
    """The changes as they are at one moment."""
    if has_snapshots(reading.places):
        with _open_snapshot(reading) as source:
            yield source
        return
    with lifting_limits(reading.places.upper) as lift:
        try:
            yield _fill_tmpfs_stage(reading, lift)
        finally:
            remove_stage(os.fsencode(reading.places.stage_dir))


@contextlib.contextmanager
def _open_snapshot(reading: Reading) -> Iterator[Source]:
    places, saved = reading.places, reading.saved
    with take_snapshot(places, live=reading.live) as moment:
        top = os.fsencode(moment.tree)
        writer = IndexWriter(reading.recorder.index, moment.racy_from_ns, moment.racy_until_ns)
        changed = (
            list_changed(moment.folder, reading.since) if reading.since and moment.birth else None
        )
        below = read_lower_top(places)
        delta = Scanner(top, reading.config, saved, writer, changed, below).run()
        delta.bare_sockets = find_bare_sockets(places, top, delta)
        acls = collect_acls(top, list_acl_holders(delta, saved))
        folder = moment.tree
        if not delta.is_empty:
            edit_snapshot(top, os.fsencode(moment.folder / "aside"), delta)
            if saved is not None:
                folder = moment.folder / "stage"
                fill_stage(top, os.fsencode(folder), delta, move_entry)
        crash_point("source-ready")
        moment.let_go()
        cost, since_ns = moment.pause.seconds, moment.racy_from_ns
        yield Source(folder, delta, acls, cost, "snapshot", moment.birth, since_ns)


def find_bare_sockets(places: Places, top: bytes, delta: Delta) -> set[bytes]:
    """The sockets in directories that are saved as a whole and have nothing below them."""
    tops = (top, *list_below(places))
    bare = set()
    for path in {*delta.sockets} - {*delta.moves}:
        folder = find_node(tops, os.path.dirname(path))
        if folder is not None and len(folder.parts) == 1:
            bare.add(path)
    return bare


def list_below(places: Places) -> list[bytes]:
    """What lies under the upper, top first."""
    layers = sorted(places.stack.iterdir(), reverse=True) if places.stack.is_dir() else []
    return [os.fsencode(folder) for folder in (*layers, *places.base_dirs)]


def has_mine(places: Places, delta: Delta) -> bool:
    """Whether more changed than what the system writes by itself.

    A directory that was copied up for what is in it looks as it does below (its time is none of
    its looks), and does not count.
    """
    if delta.mine or not delta.system or (b"" in delta.parents and _is_top_changed(places)):
        return True
    top, below = (os.fsencode(places.upper_dir),), list_below(places)
    folders = (path for path in delta.parents if path)
    return any(_is_changed(find_node(below, path), find_node(top, path)) for path in folders)


def _is_top_changed(places: Places) -> bool:
    """Whether `/` looks other than when the boot began."""
    below = read_lower_top(places)
    return below is None or show_folder(below) != show_folder(places.upper_dir.lstat())


def _is_changed(old: Node | None, new: Node | None) -> bool:
    if old is None or new is None or old.kind not in DIRECTORIES:
        return new is not None
    return new.kind == OPAQUE or any(list_details(old, new))


def read_lower_top(places: Places) -> os.stat_result | None:
    """The directory whose looks `/` had when this boot began; nobody knows where it is gone."""
    layers = sorted(places.stack.iterdir(), reverse=True) if places.stack.is_dir() else []
    for folder in (*layers[:1], *places.base_dirs[-1:]):
        with contextlib.suppress(OSError):
            return folder.lstat()
    return None


def list_acl_holders(delta: Delta, saved: object) -> list[bytes]:
    """Whose ACLs go into the sidecar: also those of directories that are only on the way.

    A directory that stands in a layer hides what the sidecars below say of it; `/` (the empty
    path) stands in every layer.
    """
    if saved is None:
        return [b"", *delta.acls]
    return sorted({b"", *delta.acls, *list_needed_folders(delta)})


def _fill_tmpfs_stage(reading: Reading, lift: Lift) -> Source:
    places, saved, live = reading.places, reading.saved, reading.live
    top, stage = os.fsencode(places.upper_dir), os.fsencode(places.stage_dir)
    with freeze_others() if live else contextlib.nullcontext(Pause()) as pause:
        before_ns = time.clock_gettime_ns(COARSE_CLOCK)
        writer = IndexWriter(reading.recorder.index, before_ns, time.time_ns())
        below = read_lower_top(places)
        delta = Scanner(top, reading.config, saved, writer, below=below).run()
        delta.bare_sockets = find_bare_sockets(places, top, delta)
        acls = collect_acls(top, list_acl_holders(delta, saved))
        lift(_find_shortage(places, delta) if live else 0)
        placer = Placer(top, stage, delta, link=not live)
        if saved is not None:
            fill_stage(top, stage, delta, placer.place)
        else:
            os.mkdir(stage)
            placer.place(top, stage, os.lstat(top))
    crash_point("source-ready")
    method = "freeze" if live else "links"
    return Source(places.stage_dir, delta, acls, pause.seconds, method, moment_ns=before_ns)


def _find_shortage(places: Places, delta: Delta) -> int:
    """What a live tmpfs lacks for a second copy of what changed; the RAM must have it."""
    free = measure_free(places.upper)
    if delta.stored_bytes <= free:
        return 0
    if delta.stored_bytes <= measure_spare_memory():
        return delta.stored_bytes - free
    changes = format_size(delta.stored_bytes)
    reason = f"a copy of {changes} of changes fits neither in it nor in the free RAM"
    hint = "A save at shutdown needs no copy; so does an upper on zram (ramos.upper=zram)."
    raise RamosError("cannot save from", places.upper, reason, "Nothing was saved", hint)
