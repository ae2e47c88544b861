"""How things stand: what is unsaved, what saving it would take, and what room there is.

Owns: that picture. Refuses: freezing or snapshotting; it is a look in passing. Invariant: looking
writes nothing to the stick.
"""

import contextlib
import os
from dataclasses import dataclass, replace
from typing import Any

from ramos.booted import Boot, Mode, read_boot
from ramos.config import SaveConfig
from ramos.errors import RamosError, find_reason
from ramos.layers.walk import Delta, Scanner
from ramos.layout import Places
from ramos.save.ground import find_left_behind
from ramos.save.session import Session, open_index, read_session
from ramos.save.source import read_lower_top
from ramos.save.visible import SECOND_NS, count_written, is_needed
from ramos.stick.check import check_presence, check_stick
from ramos.store import public
from ramos.store.generation import Generation
from ramos.store.generations import (
    Damage,
    find_absent,
    list_pins,
    read_all,
    read_default,
    read_generation,
)

# Until this boot has saved once: what a middling USB stick writes, and how far things compress.
LIKELY_BYTES_PER_SECOND = 8_000_000
LIKELY_RATIO_PERCENT = 50
FIXED_SECONDS = 0.5
FIXED_BYTES = 8192
PUBLISHED = "unsaved"


@dataclass(frozen=True)
class Unsaved:
    """What a save would store, roughly."""

    files: int
    directories: int
    whiteouts: int
    size_bytes: int
    estimated_bytes: int
    estimated_seconds: float
    left_out: tuple[str, ...] = ()
    # Of the files and deletions: the user's, and what the system writes by itself.
    mine: int = 0
    system: int = 0
    # Without deletions and what others keep to themselves: so it looks to who is not root.
    partial: bool = False


@dataclass(frozen=True)
class Fill:
    """How full a filesystem is."""

    used_bytes: int
    total_bytes: int

    @property
    def percent(self) -> int:
        """Used, of all."""
        return 100 * self.used_bytes // self.total_bytes if self.total_bytes else 0


@dataclass(frozen=True)
class SaveState:
    """Everything `ramos status` shows of saving."""

    mode: Mode
    asked_mode: Mode
    booted: int
    running: int
    default: int
    backup: int
    left_behind: int
    generations: int
    layers: int
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]
    rollback: str
    stick: str
    unsaved: Unsaved | None
    upper: Fill | None
    persist: Fill | None
    damaged: tuple[str, ...]
    # What root saw last, and when, where it is not root who looks now.
    all_unsaved: dict[str, Any] | None = None


def read_state(places: Places, config: SaveConfig) -> SaveState:
    """Look at everything once."""
    boot = read_boot(places)
    session = read_session(places)
    unsaved = find_unsaved(places, config, session)
    try:
        good, bad = read_all(places.persist)
        default, left = read_default(places.persist), find_left_behind(places, boot)
    except OSError as error:  # the stick is gone: the rest can still be told
        good, bad = [], [Damage(str(places.persist), find_reason(error))]
        default = left = None
    return SaveState(
        mode=boot.mode,
        asked_mode=boot.asked_mode,
        booted=boot.generation,
        running=session.tip if session else boot.generation,
        default=default.number if default else 0,
        backup=default.parent if default else 0,
        left_behind=left.number if left else 0,
        generations=len(good),
        layers=len(default.layers) if default else 0,
        skipped=boot.skipped,
        warnings=boot.warnings,
        rollback=_read_rollback(places),
        stick=_describe_stick(places, boot),
        unsaved=unsaved,
        upper=_measure(places.upper),
        persist=_measure(places.persist),
        damaged=tuple(f"{damage.path}: {damage.reason}" for damage in bad),
        all_unsaved=_read_published(places, session) if unsaved and unsaved.partial else None,
    )


def publish_unsaved(places: Places, unsaved: Unsaved | None) -> None:
    """Let others than root know how much it is, without a name."""
    if unsaved is not None and not unsaved.partial:
        counts = {key: getattr(unsaved, key) for key in ("mine", "system", "size_bytes")}
        public.publish(places.run, PUBLISHED, **counts)


def _read_published(places: Places, session: Session | None) -> dict[str, Any] | None:
    """What is older than the last save tells of nothing that is there now."""
    known = public.read(places.run, PUBLISHED)
    is_old = session and known and known.get("time", 0) * SECOND_NS < session.moment_ns
    return None if is_old else known or None


def describe_left_behind(places: Places) -> str:
    """Whose place the next save takes, for who is about to save; in clean mode it takes none."""
    with contextlib.suppress(OSError, RamosError):  # the save itself says what is wrong
        boot = read_boot(places)
        left = None if boot.mode is Mode.CLEAN else find_left_behind(places, boot)
        if left is not None:
            name = f"{left.number} ({left.message})" if left.message else f"{left.number}"
            return (
                f"generation {name} is left behind: this save becomes the default, without what"
                f" only that one holds; 'ramos rollback {left.number}' brings it back"
            )
    return ""


@dataclass(frozen=True)
class Logged:
    """One generation of the log, and what it is at the moment."""

    generation: Generation
    flags: dict[str, bool]


def list_history(places: Places) -> tuple[list[Logged], list[Damage]]:
    """All generations, newest first, and the files that are none."""
    good, bad = read_all(places.persist)
    pins, default = list_pins(places.persist), read_default(places.persist)
    boot, session = read_boot(places), read_session(places)
    running = session.tip if session else boot.generation
    entries = []
    for generation in reversed(good):
        number = generation.number
        flags = {
            "default": default is not None and number == default.number,
            "backup": default is not None and number == default.parent,
            "running": number == running,
            "booted": number == boot.generation,
            "pinned": number in pins,
            "incomplete": bool(find_absent(places.persist, generation)),
        }
        entries.append(Logged(generation, flags))
    return entries, bad


def read_booted(places: Places) -> Generation | None:
    """The generation that is under the running system."""
    number = read_boot(places).generation
    return read_generation(places.persist, number) if number else None


def read_running(places: Places) -> Generation | None:
    """The generation that holds what the running system saved last."""
    session = read_session(places)
    return read_generation(places.persist, session.tip) if session else read_booted(places)


def _read_rollback(places: Places) -> str:
    try:
        return places.rollback_file.read_text().split()[1]
    except (OSError, IndexError):
        return ""


def _describe_stick(places: Places, boot: Boot) -> str:
    """Root alone can read from the device who it is."""
    try:
        if os.geteuid() == 0:
            check_stick(places, boot)
        else:
            check_presence(places)
    except (RamosError, OSError) as error:
        return str(error)
    return "ok"


def _measure(path: "os.PathLike[str]") -> Fill | None:
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    total = status.f_blocks * status.f_frsize
    return Fill(total - status.f_bavail * status.f_frsize, total)


def find_unsaved(places: Places, config: SaveConfig, session: Session | None) -> Unsaved | None:
    """Compare the upper with what was saved in this boot."""
    if is_needed(places):
        return replace(estimate(count_written(places, config, session), session), partial=True)
    if not places.upper_dir.is_dir():
        return None
    top = os.fsencode(places.upper_dir)
    with open_index(places) if session else contextlib.nullcontext() as saved:
        below = read_lower_top(places)
        return estimate(Scanner(top, config, saved, None, below=below).run(), session)


def estimate(delta: Delta, session: Session | None) -> Unsaved:
    """What saving a delta would write, and how long it would take on this stick."""
    ratio = (session.ratio_percent if session else 0) or LIKELY_RATIO_PERCENT
    speed = (session.bytes_per_second if session else 0) or LIKELY_BYTES_PER_SECOND
    size = 0 if delta.is_empty else FIXED_BYTES + delta.size_bytes * ratio // 100
    seconds = 0.0 if delta.is_empty else FIXED_SECONDS + size / speed
    counts = (delta.files, delta.directories, delta.whiteouts, delta.size_bytes)
    return Unsaved(*counts, size, seconds, delta.name_left_out(), delta.mine, delta.system)
