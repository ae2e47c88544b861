"""What was saved in this boot: the next save finds what the last one noted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ramos.save.session import Session, open_index, read_session, record_session


def test_a_session_comes_back(tmp_path: Path) -> None:
    places: Any = SimpleNamespace(run=tmp_path / "run", saved_file=tmp_path / "run/saved")
    session = Session(booted=7, tip=8, bytes_per_second=1 << 20, excludes="none")
    with record_session(places) as recorder:
        recorder.keep(session)
    assert read_session(places) == session
    with open_index(places) as index:
        assert list(index) == []
    assert {*places.run.iterdir()} == {places.saved_file, places.run / "public"}
    assert places.saved_file.stat().st_mode & 0o077 == 0, "the index has every name"
