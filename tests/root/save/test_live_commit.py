"""A database that is written to all the time, through a hundred live saves.

The saves run in a process namespace of their own: they stop everybody else for a moment.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ramos.config import SaveConfig
from tests.labs import bank
from tests.labs.lab import Lab
from tests.root.linux.test_freeze import run_isolated

COMMITS = 100
NAIVE_COPIES = 100
SCRIPT = "from tests.root.save.test_live_commit import save_often; save_often(folder)"


@contextlib.contextmanager
def keep_writing(folder: Path) -> Iterator[None]:
    """Somebody works in the running system."""
    folder.mkdir()
    bank.open_bank(folder).close()
    writer = subprocess.Popen([sys.executable, "-m", "tests.labs.bank", str(folder)])
    try:
        while not (folder / "bank.db-journal").exists():
            time.sleep(0.001)
        yield
        assert writer.poll() is None, "the writer never noticed anything"
    finally:
        writer.kill()
        writer.wait()


def await_change(folder: Path) -> None:
    """Until the writer has written again."""
    before = (folder / "bank.db").stat().st_mtime_ns
    while (folder / "bank.db").stat().st_mtime_ns == before:
        time.sleep(0.001)


def save_often(top: Path) -> None:
    """Each save holds a whole database, later than that of the save before."""
    config = SaveConfig(reserve_mib=1, keep=2 * COMMITS)
    lab = Lab(top, persist_mib=256, config=config).make().boot_first()
    folder, scratch = lab.places.root / "bank", top / "copy"
    with keep_writing(folder):
        for _ in range(COMMITS):
            await_change(folder)
            report = lab.commit(live=True)
            assert (report.method, report.pause_seconds > 0) == ("snapshot", True)
    moves = []
    for number in lab.numbers():
        lab.boot(number)
        assert not (fault := bank.find_fault(folder, scratch)), f"generation {number}: {fault}"
        moves.append(bank.count_moves(scratch))
    assert len(moves) == COMMITS
    assert moves == sorted(moves)
    assert moves[-1] > moves[0]
    lab.shut_down()


def test_a_database_is_whole_in_each_of_a_hundred_live_saves(tmp_path: Path) -> None:
    run_isolated(tmp_path, SCRIPT)


def copy_and_judge(folder: Path, scratch: Path) -> str:
    """What is wrong with a copy that takes its time, as one of a gigabyte does."""
    target = scratch / "plain"
    target.mkdir(exist_ok=True)
    with (folder / "bank.db").open("rb") as source, (target / "bank.db").open("wb") as copy:
        while block := source.read(4096):
            copy.write(block)
            time.sleep(0.001)
    return bank.find_fault(target, scratch / "judged")


def test_a_plain_copy_of_that_database_is_not_whole(tmp_path: Path) -> None:
    """What the test above could not see if its database were too tame."""
    folder = tmp_path / "bank"
    with keep_writing(folder):
        assert any(copy_and_judge(folder, tmp_path) for _ in range(NAIVE_COPIES))
