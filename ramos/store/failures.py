"""What failed in this boot, and how long it is news.

Owns: the judgement of what is over. Refuses: keeping anything (`records` does). Invariants: what
tells of damage stays until the next boot; everything else is past after an hour, and what the
stick was the reason of as soon as that was written to and read back; an hour later it is told no
more but by `ramos health`.
"""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ramos import layout
from ramos.store import public, records

NEWS_SECONDS = 3600
PAST_SECONDS = 3600
LASTING = frozenset(("seal", "scrub"))
# What a stick that works again is the end of.
STICK_TROUBLE = frozenset(
    (*("stick", "return", "swap-on", "swap-off", "to-ram"), *("save", "write the records"))
)
# Published by who has written to the stick and read it back, or has checked one that came back.
SOUND = "stick"


@dataclass(frozen=True)
class Failure:
    """Something that failed: when, what, and why, where that may be told."""

    time: int
    what: str
    error: str
    past: bool = False


def find_failures(places: layout.Places) -> list[Failure]:
    """What status tells; who is not root has what is published."""
    directory = records.find_records(places)
    if os.geteuid() == 0 or os.access(directory, os.R_OK | os.X_OK):
        folders = (places.persist / layout.LOG_DIR, directory)
        entries = [entry for f in folders for entry in records.read_records("failures", f)]
    else:
        entries = public.read(places.run, public.FAILURES).get(public.FAILURES, [])
    boot, sound_at = records.read_boot_id(), public.read(places.run, SOUND).get("time", 0)
    ours = (entry for entry in entries if entry.get("boot") == boot)
    return judge(ours, int(time.time()), sound_at)[-public.KEPT_FAILURES :]


def judge(entries: Iterable[Mapping[str, Any]], now: int, sound_at: int) -> list[Failure]:
    """What is still told of, oldest first, and whether it is over."""
    found = []
    for entry in entries:
        seconds, what = entry.get("time"), str(entry.get("what", ""))
        when = seconds if isinstance(seconds, int) else 0
        over_at = when + NEWS_SECONDS
        if what in STICK_TROUBLE and sound_at > when:
            over_at = min(over_at, sound_at)
        is_past = now >= over_at and what not in LASTING
        if not is_past or now < over_at + PAST_SECONDS:
            found.append(Failure(when, what, str(entry.get("error", "")), is_past))
    return found
