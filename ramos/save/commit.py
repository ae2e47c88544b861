"""Saving: make a new generation from what changed in the upper.

Owns: the order of the steps and the clean-up after a failed one. Refuses: clean mode (unless told),
a stick that is not the one we booted from, and a stick without room. Invariants: the rename of the
generation file is the commit, and everything that file names is durable and was read back before;
whatever fails, the default is what it was, and the next commit sweeps what this one left; an entry
that cannot be saved is named in the report, and costs nothing but itself.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ramos.booted import Boot, Mode, read_boot
from ramos.config import SaveConfig
from ramos.errors import RamosError, UsageError
from ramos.layers.layer import build_layer, new_layer, publish_layer, publish_sidecar
from ramos.layers.merge import merge_layers, plan_run
from ramos.layers.walk import Delta
from ramos.layout import Places
from ramos.linux.child import guarded
from ramos.linux.fs import crash_point, hold_lock
from ramos.linux.squashfs import DEFAULT_STAYS
from ramos.progress import OnProgress, Progress, quiet
from ramos.save.adopt import adopt_old_layout
from ramos.save.after import settle
from ramos.save.ground import Ground, choose_ground, find_left_behind, restore_booted
from ramos.save.session import Recorder, Session, name_excludes, open_index, record_session
from ramos.save.snapshot import clean_leftovers, has_snapshots
from ramos.save.source import Reading, Source, has_mine, open_source
from ramos.save.space import check_room
from ramos.stick.check import check_stick, read_written_bytes
from ramos.store.generation import MAX_MESSAGE_CHARS, Generation, StoredFile
from ramos.store.generations import (
    NOTHING_PRUNED,
    PruneReport,
    list_numbers,
    make_tree,
    next_number,
    prune,
    publish_generation,
    read_default,
    set_pin,
    sweep,
)
from ramos.store.images import find_base_images

# A smaller layer says nothing of how fast the stick is.
LEAST_MEASURED_BYTES = 1 << 20
# Every named step at which a test can kill a commit, in the order in which they come.
CRASH_POINTS = (
    *("commit-started", "snapshot-taken", "source-ready", "layer-before-build", "layer-built"),
    *("layer-synced", "layer-read-back", "layer-compared", "layer-renamed", "layer-published"),
    *("layer-sealed", "acl-renamed", "acl-published", "acl-sealed", "generation-before-write"),
    *("generation-written", "generation-renamed", "generation-published", "session-kept"),
    *("prune-generation", "prune-layer", "commit-done"),
)
SCANNING = "looking for what changed"
PUBLISHING = "making it the default"


@dataclass(frozen=True)
class CommitRequest:
    """What is asked of a commit.

    `live` means that it is this machine's own system, and that others run in it: they stand still
    for the moment that is saved. `shutdown` means that nobody runs, and that it is the last chance:
    from a tmpfs, where a write through a mapping leaves no trace in a file's times, all of this
    boot is written again. Where it is `unasked`, nobody wants what waits to be called off.
    """

    message: str = ""
    reason: str = "user"
    pin: bool = False
    full: bool = False
    dry_run: bool = False
    shutdown: bool = False
    live: bool = False
    unasked: bool = False
    from_clean: bool = False
    wait_seconds: float = 0
    base_files: tuple[StoredFile, ...] | None = None
    config: SaveConfig = field(default_factory=SaveConfig)


@dataclass(frozen=True)
class CommitReport:
    """What a commit did; `generation` is 0 if there was nothing to save."""

    generation: int
    parent: int
    method: str
    files: int
    directories: int
    whiteouts: int
    changed_bytes: int
    layer_bytes: int
    written_bytes: int
    seconds: float
    pause_seconds: float
    sockets_skipped: int
    times_clamped: int
    acls: int
    layers: int
    pruned: PruneReport
    notes: tuple[str, ...] = ()
    entries_left_out: int = 0
    left_out: tuple[str, ...] = ()
    # Of the files and deletions: the user's, and what the system writes by itself.
    mine: int = 0
    system: int = 0


def commit(places: Places, request: CommitRequest, on_progress: OnProgress = quiet) -> CommitReport:
    """Save what changed; the report says what that took."""
    with hold_lock(places.lock_file, "commit", request.wait_seconds), _plain_errors(places):
        report = _commit(places, request, on_progress)
    if report.generation:
        settle(places, request.reason, **asdict(report))
    return report


@contextlib.contextmanager
def _plain_errors(places: Places) -> Iterator[None]:
    """An operating system's error that no step foresaw still says what state things are in."""
    before = _find_highest(places.persist)
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else places.persist
        now = _find_highest(places.persist)
        state = f"Generation {now} is saved all the same" if now > before else DEFAULT_STAYS
        raise RamosError("cannot save", where, error, state) from error
    finally:
        with contextlib.suppress(OSError, RamosError):
            sweep(places.persist)


def _find_highest(persist: Path) -> int:
    """The highest number; 0 where nothing can be read."""
    with contextlib.suppress(OSError):
        return max(list_numbers(persist), default=0)
    return 0


def _commit(places: Places, request: CommitRequest, on_progress: OnProgress) -> CommitReport:
    started = time.monotonic()
    boot = read_boot(places)
    refuse_mode(boot, request)
    if (request.shutdown or request.unasked) and places.rollback_file.exists():
        return report_nothing("a rollback waits for the reboot: what runs is not saved over it")
    device = check_stick(places, boot).device
    written = read_written_bytes(device)
    crash_point("commit-started")
    start = _prepare(places, request, boot, on_progress)
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(guarded(lambda _notes: _clean_up(places)))
        recorder = stack.enter_context(record_session(places))
        on_progress(Progress(SCANNING))
        source = stack.enter_context(_open_source(places, request, start.ground, recorder))
        work = _Work(places, request, start.boot, start.ground, source, start.room_bytes)
        made = None if request.dry_run else work.store(on_progress)
        if made is not None and not source.delta.unread:  # it has to be tried again
            with _noting(notes, "what was saved cannot be remembered; the next save takes longer"):
                recorder.keep(work.describe_session(made, time.monotonic() - started))
            crash_point("session-kept")
    pruned = _tidy(work, made, notes) if made is not None else NOTHING_PRUNED
    crash_point("commit-done")
    now = read_written_bytes(device)
    total = 0 if written is None or now is None else now - written
    report = work.report(made, pruned, total, time.monotonic() - started)
    return replace(report, notes=tuple(notes))


@dataclass(frozen=True)
class _Start:
    """Where a commit starts: on which boot, on what ground, with how much room."""

    boot: Boot
    ground: Ground
    room_bytes: int


def _prepare(places: Places, request: CommitRequest, boot: Boot, on_progress: OnProgress) -> _Start:
    """Sweep up after a dead commit, adopt an older layout, choose what to build on."""
    config = request.config
    clean_leftovers(places)
    if not request.dry_run:
        make_tree(places.persist)
        restore_booted(places, boot)
        sweep(places.persist)
        boot = adopt_old_layout(places, boot)
    full = request.full or (request.shutdown and not has_snapshots(places))
    ground = choose_ground(places, boot, full=full, max_layers=config.max_layers)
    room_bytes = check_room(places, config)
    if not request.dry_run:
        ground = _shorten(places, ground, config, room_bytes, on_progress)
    return _Start(boot, ground, room_bytes)


@contextlib.contextmanager
def _open_source(
    places: Places, request: CommitRequest, ground: Ground, recorder: Recorder
) -> Iterator[Source]:
    """What changed since the session's last commit, or all of this boot."""
    config, live = request.config, request.live and not request.shutdown
    with contextlib.ExitStack() as stack:
        saved = stack.enter_context(open_index(places)) if ground.is_delta else None
        since = ground.since(name_excludes(config))
        reading = Reading(places, config, saved, recorder, since, live)
        yield stack.enter_context(open_source(reading))


def _tidy(work: "_Work", made: Generation, notes: list[str]) -> PruneReport:
    """What follows a save and is no part of it."""
    persist, request = work.places.persist, work.request
    with _noting(notes, "it cannot be pinned"):
        if request.pin:
            set_pin(persist, made.number)
    with _noting(notes, "old generations cannot be deleted"):
        work.places.rollback_file.unlink(missing_ok=True)
        return _prune_after(work.places, work.boot, request.config, made)
    return NOTHING_PRUNED


@contextlib.contextmanager
def _noting(notes: list[str], what: str) -> Iterator[None]:
    """The generation is saved: what goes wrong from here on is told, but undoes nothing."""
    try:
        yield
    except (OSError, RamosError) as error:
        notes.append(f"{what}: {error}")


def refuse_mode(boot: Boot, request: CommitRequest) -> None:
    """In clean mode nothing is saved by accident."""
    if boot.mode is Mode.CLEAN and not request.from_clean:
        raise UsageError(
            "cannot save",
            "a system in clean mode",
            "it runs without what was saved, and a save would become the default",
            hint="If that is what you want: ramos commit --from-clean.",
        )
    if len(request.message) > MAX_MESSAGE_CHARS:
        reason = f"it has more than {MAX_MESSAGE_CHARS} characters"
        raise UsageError("cannot save with", "this message", reason)


def _shorten(
    places: Places, ground: Ground, config: SaveConfig, room_bytes: int, on_progress: OnProgress
) -> Ground:
    """A chain that is full already (nobody compacted it at a shutdown) is merged first."""
    sizes = [file.size_bytes for file in ground.below if file.kind == "layer"]
    if len(sizes) < config.max_layers:
        return ground
    start = plan_run(sizes, max(1, config.max_layers // 2))
    with guarded(lambda _notes: _clean_up(places)):
        below = merge_layers(
            places.persist, ground.below, start, config, room_bytes, places.base_dirs, on_progress
        )
    return replace(ground, below=below)


def report_nothing(note: str) -> CommitReport:
    """A commit that was right not to save."""
    return CommitReport(0, 0, "none", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NOTHING_PRUNED, (note,))


def _clean_up(places: Places) -> None:
    """What the guard does for a committer that was killed."""
    with contextlib.suppress(OSError, RamosError):
        clean_leftovers(places)
    with contextlib.suppress(OSError, RamosError):
        sweep(places.persist)


def _prune_after(places: Places, boot: Boot, config: SaveConfig, made: Generation) -> PruneReport:
    """Delete what is too old; never what was booted, for nothing newer was read by a boot yet."""
    if boot.generation == 0:
        return NOTHING_PRUNED
    return prune(places.persist, config, (boot.generation, made.number, made.parent))


@dataclass(frozen=True)
class _Work:
    """One commit, once it is clear what it starts from and what changed."""

    places: Places
    request: CommitRequest
    boot: Boot
    ground: Ground
    source: Source
    room_bytes: int

    def store(self, on_progress: OnProgress) -> Generation | None:
        """Layer, sidecar, generation file; None if there is nothing to save."""
        if not self.has_reason():
            return None
        persist = self.places.persist
        default = read_default(persist)
        below = (*self._find_base(default), *self.ground.below)
        files = (*below, *self._store_layer(on_progress))
        if default is not None and files == default.files:
            return None
        made = self._describe(next_number(persist), files)
        on_progress(Progress(PUBLISHING))
        publish_generation(persist, made)
        return made

    def has_reason(self) -> bool:
        """Whether there is something to save: what the system writes by itself is none."""
        request, delta, default = self.request, self.source.delta, read_default(self.places.persist)
        is_new_base = default is not None and self._find_base(default) != default.base
        # What this boot saved already is in the default, and not below all of this boot anew.
        is_anew = self.ground.session is not None and not self.ground.is_delta
        if is_new_base or is_anew or find_left_behind(self.places, self.boot) is not None:
            return True
        is_asked = request.message or request.pin or request.full
        return not delta.is_empty and (bool(is_asked) or has_mine(self.places, delta))

    def _find_base(self, default: Generation | None) -> tuple[StoredFile, ...]:
        """The base images of the new generation."""
        given = self.request.base_files
        return find_base_images(self.places.persist, default) if given is None else given

    def _store_layer(self, on_progress: OnProgress) -> Iterator[StoredFile]:
        source, persist, config = self.source, self.places.persist, self.request.config
        if source.delta.is_empty:
            return
        with new_layer(persist) as path:
            room, delta = self.room_bytes, source.delta
            built = build_layer(source.folder, path, config, room, delta, on_progress)
            yield publish_layer(persist, built)
        if source.acls:
            yield publish_sidecar(persist, source.acls)

    def _describe(self, number: int, files: tuple[StoredFile, ...]) -> Generation:
        return Generation(
            number=number,
            parent=self.ground.parent,
            created=int(time.time()),
            kernel=self.boot.kernel or os.uname().release,
            reason=self.request.reason,
            message=self.request.message,
            files=files,
        )

    def describe_session(self, made: Generation, seconds: float) -> Session:
        """What the next commit and the next estimate need to know of this one."""
        delta, config = self.source.delta, self.request.config
        if delta.is_empty or not delta.size_bytes:
            before = self.ground.session
            speed, ratio = (before.bytes_per_second, before.ratio_percent) if before else (0, 0)
        else:
            size = made.layers[-1].size_bytes
            speed = int(size / seconds) if size > LEAST_MEASURED_BYTES else 0
            ratio = min(100, 100 * size // delta.size_bytes)
        booted, birth, excludes = self.boot.generation, self.source.birth, name_excludes(config)
        moment_ns = self.source.moment_ns
        return Session(booted, made.number, speed, ratio, birth, excludes, moment_ns)

    def report(
        self, made: Generation | None, pruned: PruneReport, written_bytes: int, seconds: float
    ) -> CommitReport:
        """What was done, in numbers."""
        found = self.source.delta
        # What is no reason for a save is not saved, and only counted.
        delta = found if made is not None or self.has_reason() else Delta()
        layers = made.layers if made is not None else ()
        is_new = bool(layers) and not delta.is_empty
        return CommitReport(
            generation=made.number if made else 0,
            parent=self.ground.parent,
            method=self.source.method,
            files=delta.files,
            directories=delta.directories,
            whiteouts=delta.whiteouts,
            changed_bytes=delta.size_bytes,
            layer_bytes=layers[-1].size_bytes if is_new else 0,
            written_bytes=written_bytes,
            seconds=seconds,
            pause_seconds=self.source.pause_seconds,
            sockets_skipped=len(found.sockets),
            times_clamped=len(found.clamped),
            acls=len(delta.acls),
            layers=len(layers),
            pruned=pruned,
            entries_left_out=len(found.left_out) + len(found.unread),
            left_out=found.name_left_out(),
            mine=delta.mine,
            system=found.system,
        )
