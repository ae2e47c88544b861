"""What a save of a tmpfs records: a file of the clock's own tick counts as changed."""

from pathlib import Path

from ramos.config import SaveConfig
from ramos.layers.index import NEVER
from ramos.layout import Places
from ramos.save.session import Session, open_index, record_session
from ramos.save.source import open_source

TRIES = 200


def save_once(places: Places, file: Path, text: str) -> bytes:
    """The fingerprint that is recorded for a file written right before."""
    with record_session(places) as recorder:
        file.write_text(text)
        with open_source(places, SaveConfig(), None, recorder, 0, live=False):
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
