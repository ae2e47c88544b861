"""When the system saves by itself: the decisions.

Owns: what makes a save due, and when somebody is too busy writing for one. Refuses: looking at the
machine (numbers in, decisions out). Invariants: several reasons make one save; a save that anybody
made starts the time anew.
"""

from dataclasses import dataclass, replace

from ramos.config import SaveConfig, parse_duration
from ramos.sizes import KIB

TIMER, BATTERY, LID = "timer", "battery", "lid"
BUSY_BYTES_A_SECOND = 512 * KIB
LOW_PERCENT = 10
REARM_PERCENT = 5


@dataclass(frozen=True)
class Writing:
    """How the upper is: what it holds, what its device has written, and what waits.

    `saved_mark` is another one after each save.
    """

    used_bytes: int = 0
    written_bytes: int = 0
    saved_mark: float = 0.0
    rollback_waits: bool = False


STILL = Writing()


@dataclass(frozen=True)
class Autosave:
    """What is remembered of it: `due` is why a save is; `since` is when the last one was."""

    due: str = ""
    running: bool = False
    since: float = -1.0
    measured_at: float = -1.0
    writing: Writing = STILL
    busy: bool = False
    battery_low: bool = False
    # Said once, until it is over.
    postponed: bool = False
    failed: bool = False


def look(saves: Autosave, now: float, writing: Writing, config: SaveConfig) -> Autosave:
    """How things are by now, and whether it is time for a save."""
    is_first = saves.measured_at < 0
    is_saved = writing.saved_mark != saves.writing.saved_mark
    since = now if is_first or is_saved else saves.since
    seconds = max(now - saves.measured_at, 0.1)
    grown = abs(writing.used_bytes - saves.writing.used_bytes)
    written = max(grown, writing.written_bytes - saves.writing.written_bytes)
    every = parse_duration(config.every)
    is_time = every is not None and now - since >= every
    return replace(
        saves,
        due="" if is_saved and not is_first else saves.due or TIMER * is_time,
        since=since,
        measured_at=now,
        writing=writing,
        busy=not is_first and written > BUSY_BYTES_A_SECOND * seconds,
    )


def ask(saves: Autosave, reason: str) -> Autosave:
    """Something is a reason for a save; one that is due or at work will do."""
    return saves if saves.running else replace(saves, due=saves.due or reason)


def weigh_battery(saves: Autosave, percent: int, *, discharging: bool) -> tuple[Autosave, bool]:
    """Whether the battery has just become low: once, until it is charged or clearly above."""
    if discharging and percent <= LOW_PERCENT:
        return replace(saves, battery_low=True), not saves.battery_low
    is_low = saves.battery_low and discharging and percent < LOW_PERCENT + REARM_PERCENT
    return replace(saves, battery_low=is_low), False
