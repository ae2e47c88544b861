"""Records and the ledger: counted once, bounded, and never in the way."""

import json
from pathlib import Path

import pytest

from ramos.store import records
from ramos.store.records import Ledger, advance, flush_records, note, read_ledger, read_records


@pytest.fixture
def persist(tmp_path: Path) -> Path:
    (tmp_path / "persist").mkdir()
    return tmp_path / "persist"


def test_bytes_of_a_boot_count_once() -> None:
    ledger = advance(Ledger(), "a", 100, 10)
    ledger = advance(ledger, "a", 200, 15)
    assert (ledger.bytes_written, ledger.boots, ledger.since) == (15, 1, 100)
    ledger = advance(ledger, "b", 300, 4)
    assert (ledger.bytes_written, ledger.boots) == (19, 2)


def test_a_counter_that_starts_again_takes_nothing_away() -> None:
    ledger = advance(advance(Ledger(), "a", 1, 50), "a", 2, 5)
    assert ledger.bytes_written == 50


def test_flush_moves_what_was_noted(tmp_path: Path, persist: Path) -> None:
    ram = tmp_path / "ram"
    note("commits", ram, generation=2)
    note("failures", ram, what="x", error="y")
    note("scrubs", ram, damaged=["layer z"])
    flush_records(persist, 4096, 8, ram)
    flush_records(persist, 8192, 8, ram)
    ledger = read_ledger(persist / "log")
    assert (ledger.commits, ledger.errors, ledger.bytes_written) == (1, 1, 8192)
    assert ledger.damaged == ("layer z",)
    assert [r["generation"] for r in read_records("commits", persist / "log")] == [2]
    assert read_records("commits", ram) == []


def test_an_interrupted_flush_loses_nothing(tmp_path: Path, persist: Path) -> None:
    ram = tmp_path / "ram"
    note("commits", ram, generation=2)
    (ram / "commits.jsonl").rename(ram / "commits.taken")
    note("commits", ram, generation=3)
    flush_records(persist, 0, 8, ram)
    flush_records(persist, 0, 8, ram)
    assert [r["generation"] for r in read_records("commits", persist / "log")] == [2, 3]


def test_the_log_is_bounded(tmp_path: Path, persist: Path) -> None:
    ram = tmp_path / "ram"
    for number in range(40):
        for _ in range(20):
            note("failures", ram, what="x" * 500, error=number)
        flush_records(persist, 0, 1, ram)
    file = persist / "log/failures.jsonl"
    assert file.stat().st_size <= (1 << 20) * records.KIND_SHARE
    kept = read_records("failures", persist / "log")
    assert kept[-1]["error"] == 39


@pytest.mark.parametrize("text", ["", "[]", "{", '{"boots": "many"}', '{"damaged": 3}', "\0"])
def test_a_damaged_ledger_starts_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text)
    assert read_ledger(tmp_path) == Ledger()


def test_damaged_records_are_passed_over(tmp_path: Path) -> None:
    good = json.dumps({"time": 1})
    (tmp_path / "boots.jsonl").write_text(f"{good}\n\xff{{\n[1]\n{good}\n", encoding="latin-1")
    assert len(read_records("boots", tmp_path)) == 2


def test_records_stay_until_the_stick_has_them(tmp_path: Path, persist: Path) -> None:
    ram = tmp_path / "ram"
    note("commits", ram, generation=2)
    in_the_way = persist / "log/commits.jsonl"
    in_the_way.mkdir(parents=True)
    with pytest.raises(OSError):
        flush_records(persist, 0, 8, ram)
    in_the_way.rmdir()
    flush_records(persist, 0, 8, ram)
    assert [r["generation"] for r in read_records("commits", persist / "log")] == [2]


def test_what_a_panic_left_is_copied_and_freed(
    tmp_path: Path, persist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pstore = tmp_path / "pstore"
    pstore.mkdir()
    monkeypatch.setattr(records, "PSTORE_DIR", pstore)
    flush_records(persist, 0, 8, tmp_path / "ram")
    assert not (persist / "log/pstore").exists()
    for number in range(records.KEPT_PANICS + 2):
        (pstore / f"dmesg-{number:02}").write_text(f"panic {number}")
    flush_records(persist, 0, 8, tmp_path / "ram")
    assert not list(pstore.iterdir())
    kept = sorted((persist / "log/pstore").iterdir())
    assert len(kept) == records.KEPT_PANICS
    assert kept[-1].read_text() == f"panic {records.KEPT_PANICS + 1}"


def test_what_cannot_be_noted_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "ram").write_text("a file where the folder should be")
    note("commits", tmp_path / "ram", generation=2)
    assert read_records("commits", tmp_path / "ram") == []
