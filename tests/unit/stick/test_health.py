"""The numbers of health: from the ledger of the stick and from what was noted since."""

import json
from pathlib import Path

import pytest

from ramos.layout import Places
from ramos.stick import health
from ramos.store import records


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places.below(tmp_path)
    (made.persist / "log").mkdir(parents=True)
    return made


def test_what_was_noted_since_counts(places: Places) -> None:
    ledger = {"since": 1, "commits": 3, "errors": 1, "damaged": ["old"], "bytes_written": 1 << 30}
    (places.persist / "log/ledger.json").write_text(json.dumps(ledger))
    noted = places.run / "records"
    records.note("commits", noted)
    records.note("scrubs", noted, damaged=["rootfs.squashfs"])
    for number in range(7):
        records.note("failures", noted, what=str(number))
    found = health.read_health(places)
    assert (found.commits, found.errors, found.damaged) == (4, 8, ("rootfs.squashfs",))
    assert [entry["what"] for entry in found.failures] == ["2", "3", "4", "5", "6"]
    assert found.last_scrub > 0
    assert found.bytes_a_day is not None
    assert (found.capacity_bytes, found.wear_percent, found.filesystem_errors) == (None,) * 3


def test_no_rate_before_there_is_a_day(places: Places) -> None:
    assert health.read_health(places).bytes_a_day is None
