"""Children that clean up after a process that was killed, and only then."""

import os
import time
from pathlib import Path

from ramos.linux.child import guarded


def test_who_lives_on_cleans_up_alone(tmp_path: Path) -> None:
    with guarded(lambda _notes: (tmp_path / "cleaned").touch()):
        pass
    assert not (tmp_path / "cleaned").exists()


def test_who_dies_is_cleaned_up_after_with_what_was_noted(tmp_path: Path) -> None:
    def clean(notes: list[str]) -> None:
        (tmp_path / "new").write_text(" ".join(notes))
        (tmp_path / "new").rename(tmp_path / "cleaned")

    child = os.fork()
    if child == 0:
        with guarded(clean) as guard:
            guard.tell("first")
            guard.tell("second")
            os._exit(1)
    os.waitpid(child, 0)
    while not (tmp_path / "cleaned").exists():
        time.sleep(0.01)
    assert (tmp_path / "cleaned").read_text() == "first second"
