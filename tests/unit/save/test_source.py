"""What a save records: a file of the clock's own tick counts as changed."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.config import SaveConfig
from ramos.layers.index import NEVER
from ramos.layout import Places
from ramos.linux import btrfs
from ramos.linux.freeze import Pause
from ramos.save import snapshot, source
from ramos.save.session import Session, open_index, record_session
from ramos.save.source import Reading, open_source

TRIES = 200


def save_once(places: Places, file: Path, text: str) -> bytes:
    """The fingerprint that is recorded for a file written right before."""
    with record_session(places) as recorder:
        file.write_text(text)
        with open_source(Reading(places, SaveConfig(), None, recorder, 0, live=False)):
            pass
        recorder.keep(Session(0, 0))
    with open_index(places) as saved:
        return {entry.path: entry.fingerprint for entry in saved}[b"file"]


def test_a_file_of_the_same_tick_is_recorded_as_changed(tmp_path: Path) -> None:
    """Most tries fall into one tick with the write; without the window none counts."""
    places = Places.below(tmp_path)
    places.upper_dir.mkdir(parents=True)
    file = places.upper_dir / "file"
    assert any(save_once(places, file, f"{n:04d}") == NEVER for n in range(TRIES))


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """An upper whose snapshots are copies."""
    places = Places.below(tmp_path)
    places.upper_dir.mkdir(parents=True)
    monkeypatch.setattr(source, "has_snapshots", lambda _: True)
    monkeypatch.setattr(btrfs, "read_birth", lambda _: 1)
    monkeypatch.setattr(btrfs, "destroy_snapshot", lambda _: None)
    return places


def test_the_tick_of_a_snapshot_is_known(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is written while it is taken has a ctime within."""
    file = places.upper_dir / "file"
    monkeypatch.setattr(btrfs, "create_snapshot", lambda *_: file.write_text("meanwhile"))
    with snapshot.take_snapshot(places, live=False) as moment:
        assert moment.racy_from_ns <= file.stat().st_ctime_ns <= moment.racy_until_ns


@pytest.mark.parametrize(("until_ns", "certain"), [(1, True), (1 << 62, False)])
def test_a_file_of_the_snapshots_tick_is_recorded_as_changed(
    places: Places, monkeypatch: pytest.MonkeyPatch, until_ns: int, certain: bool
) -> None:
    @contextlib.contextmanager
    def take(_: Places, *, live: bool) -> Iterator[snapshot.Moment]:
        assert not live
        folder = places.run / "moment"
        shutil.copytree(places.upper_dir, folder / "upper")
        yield snapshot.Moment(folder, Pause(), lambda: None, 0, until_ns, 1)

    monkeypatch.setattr(source, "take_snapshot", take)
    assert (save_once(places, places.upper_dir / "file", "text") != NEVER) is certain
