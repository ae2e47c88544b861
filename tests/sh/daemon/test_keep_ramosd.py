"""What OpenRC starts for ramosd: it waits longer after each failure, and tells who logs in."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.labs.harness import SHELLS, move_places

SLEEP = 'sleep() { echo "$1" >>"$RUN_DIR/slept"; }\n'


def keep(shell: str, home: Path, uptime: str, log: int | None = subprocess.DEVNULL) -> str:
    """Start it once; how long it has waited before it became ramosd."""
    (home / "uptime").write_text(f"{uptime} 1.00\n")
    (home / "ramosd").write_text('#!/bin/sh\necho "why" >&2\n')
    (home / "ramosd").chmod(0o755)
    (home / "slept").unlink(missing_ok=True)
    program = REPOSITORY / "services/keep-ramosd"
    text = move_places(program, RAMOSD=home / "ramosd", RUN_DIR=home, UPTIME=home / "uptime")
    place = home / "keep"
    place.write_text(text.replace('main "$@"', f'{SLEEP}main "$@"'))
    done = subprocess.run([*SHELLS[shell], place], stdout=-1, stderr=log, check=True)
    assert done.stdout == b""
    if log is not None and log != subprocess.DEVNULL:
        assert done.stderr == b"why\n"
    return (home / "slept").read_text().strip()


@pytest.mark.parametrize("shell", SHELLS)
def test_each_failure_makes_it_wait_longer(shell: str, tmp_path: Path) -> None:
    waits = [keep(shell, tmp_path, f"{100 + number}.50") for number in range(9)]
    assert waits == ["0", "1", "2", "4", "8", "16", "32", "60", "60"]
    assert keep(shell, tmp_path, "900.00") == "0", "it ran for long in between"


@pytest.mark.parametrize("shell", SHELLS)
def test_who_logs_in_is_told_after_some(shell: str, tmp_path: Path) -> None:
    word = tmp_path / "ramosd.failed"
    for _ in range(3):
        keep(shell, tmp_path, "100.00")
        assert not word.exists()
    keep(shell, tmp_path, "100.00")
    assert word.read_text().startswith("ramosd does not stay up (3 times): ")
    assert word.read_text().count("\n") == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_what_it_says_is_kept_where_nobody_listens(shell: str, tmp_path: Path) -> None:
    keep(shell, tmp_path, "100.00", log=subprocess.PIPE)
    assert not (tmp_path / "ramosd.log").exists()
    keep(shell, tmp_path, "100.00")
    assert (tmp_path / "ramosd.log").read_text() == "why\n"
    assert (tmp_path / "ramosd.log").stat().st_mode & 0o077 == 0, "it may name users' files"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("text", ["", "x", "3", "3 y 4", "$(reboot) 1", "-1 5"])
def test_junk_in_its_notes_stops_nothing(shell: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "ramosd.starts").write_text(text)
    assert keep(shell, tmp_path, "100.00", log=subprocess.PIPE) == "0"


@pytest.mark.parametrize("shell", SHELLS)
def test_ten_minutes_are_no_failure(shell: str, tmp_path: Path) -> None:
    for uptime, wait in (("699.90", "4"), ("700.00", "0")):
        (tmp_path / "ramosd.starts").write_text("3 100\n")
        assert keep(shell, tmp_path, uptime) == wait
