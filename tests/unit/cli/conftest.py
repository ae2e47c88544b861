"""A tree that stands in for the running system, and the command on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ramos.layout import Places

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A system that was booted, and has saved nothing."""
    made = Places.below(tmp_path)
    made.run.mkdir()
    made.boot_file.write_text("mode=default\n")
    (made.persist / "log").mkdir(parents=True)
    return made


def ramos(places: Places, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, about that system."""
    done = subprocess.run(
        [sys.executable, "-m", "ramos", *words],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "RAMOS_TREE": str(places.run.parent)},
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done
