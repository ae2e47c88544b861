"""What is published: readable for everybody, whole, and without words that may hold a name."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.store import public, records


@pytest.fixture
def strict() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict")
def test_everybody_can_read_it_whatever_the_umask_is(tmp_path: Path) -> None:
    public.publish(tmp_path, "saved", tip=3)
    folder = tmp_path / "public"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "saved.json").stat().st_mode) == 0o644
    found = public.read(tmp_path, "saved")
    assert (found["tip"], found["time"] > 0) == (3, True)


def test_publishing_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "public").write_text("in the way")
    public.publish(tmp_path, "saved", tip=3)
    assert public.read(tmp_path, "saved") == {}


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "\0"])
def test_junk_counts_as_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public/saved.json").write_text(text)
    assert public.read(tmp_path, "saved") == {}


def test_the_words_of_an_error_are_published_where_all_terminals_had_them(tmp_path: Path) -> None:
    records.note("failures", tmp_path / "records", what="save", error="/home/other/x: damaged")
    for number in range(5):
        records.note("failures", tmp_path / "records", what="stick", error=f"pulled out {number}")
    records.note("commits", tmp_path / "records", generation=1)
    found = public.read(tmp_path, "failures")["failures"]
    assert [failure["error"] for failure in found] == [f"pulled out {n}" for n in range(5)]
    records.note("failures", tmp_path / "records", what="save", error="/home/other/x: damaged")
    last = public.read(tmp_path, "failures")["failures"][-1]
    assert (last["what"], last["error"], last["time"] > 0) == ("save", "", True)


def test_records_are_for_root_alone(tmp_path: Path) -> None:
    records.note("failures", tmp_path / "records", what="save", error="x")
    persist = tmp_path / "persist"
    (persist / "log").mkdir(parents=True, mode=0o755)
    records.flush_records(persist, 0, 1, tmp_path / "records")
    for folder in (tmp_path / "records", persist / "log"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
