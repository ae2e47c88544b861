"""How long what failed is news: a table of what, how long ago, and what came after."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ramos.layout import Places
from ramos.store import public, records
from ramos.store.failures import Failure, find_failures, judge

NOW = 1_000_000
MINUTE, HOUR = 60, 3600


@pytest.mark.parametrize(
    ("what", "ago", "sound_ago", "told"),
    [
        ("stick", MINUTE, None, "error"),
        ("stick", 10 * MINUTE, 5 * MINUTE, "past"),  # back, and checked
        ("save", 10 * MINUTE, 5 * MINUTE, "past"),  # the next one went well
        ("stick", MINUTE, 5 * MINUTE, "error"),  # pulled out again
        ("stick", MINUTE, MINUTE, "error"),  # in the same second: nobody can tell
        ("stick", 2 * HOUR, 61 * MINUTE, ""),
        ("setup", 10 * MINUTE, 5 * MINUTE, "error"),  # no business of the stick
        ("setup", HOUR, None, "past"),
        ("setup", 2 * HOUR, None, ""),
        ("scrub", 99 * HOUR, MINUTE, "error"),  # damage does not go away
        ("setup", -HOUR, None, "error"),  # the clock was set back
    ],
)
def test_how_long_a_failure_is_news(what: str, ago: int, sound_ago: int | None, told: str) -> None:
    sound_at = 0 if sound_ago is None else NOW - sound_ago
    found = judge([{"time": NOW - ago, "what": what, "error": "x"}], NOW, sound_at)
    assert [("past" if failure.past else "error") for failure in found] == [told] * bool(told)


def test_what_was_taken_to_the_stick_is_told_as_well(tmp_path: Path) -> None:
    places = Places.below(tmp_path)
    log = places.persist / "log"
    log.mkdir(parents=True)
    now, boot = int(time.time()), records.read_boot_id()
    lines = [
        {"time": now, "boot": "another", "what": "stick", "error": "in another boot"},
        {"time": now - 10, "boot": boot, "what": "stick", "error": "pulled out"},
        {"time": now - 10, "boot": boot},
    ]
    (log / "failures.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    places.run.mkdir()
    public.publish(places.run, "stick")
    records.note("failures", records.find_records(places), what="save", error="no room")
    assert find_failures(places) == [
        Failure(now - 10, "stick", "pulled out", past=True),
        Failure(now - 10, "", ""),
        Failure(find_failures(places)[-1].time, "save", "no room"),
    ]


def test_a_record_that_is_damaged_is_old() -> None:
    junk: list[dict[str, Any]] = [
        {"time": "now", "what": 7},
        {},
        {"time": None, "what": "scrub", "error": None},
    ]
    assert [(failure.what, failure.time) for failure in judge(junk, NOW, 0)] == [("scrub", 0)]
