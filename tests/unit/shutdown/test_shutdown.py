"""The save at shutdown: what the consoles show, which keys count, and that it always ends."""

import contextlib
import os
import pty
import re
import signal
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ramos.booted import Boot, Mode
from ramos.config import SaveConfig
from ramos.errors import RamosError
from ramos.linux.child import run_worker
from ramos.progress import OnProgress, Progress, quiet
from ramos.shutdown import order
from ramos.shutdown.order import Consoles, Outcome, draw_progress, list_targets, save_at_shutdown

DEFAULT = Boot(generation=1)
QUICK = SaveConfig(shutdown_wait_seconds=1, shutdown_stall_seconds=1)
PATIENT = SaveConfig(shutdown_wait_seconds=60, shutdown_stall_seconds=60)


QUESTIONS = ("nobody answers", "[s] skips it", "[1] ")


class Console:
    """A terminal with somebody at it who answers questions."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        tty.setraw(self.master)
        self.path = Path(os.ttyname(self.slave))
        self.text = ""
        self.answers: list[str] = []
        self.asked = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 4096):
                self.text += data.decode()
                while sum(map(self.text.count, QUESTIONS)) > self.asked and self.answers:
                    self.asked += 1
                    os.write(self.master, self.answers.pop(0).encode())


@pytest.fixture
def console() -> Iterator[Console]:
    console = Console()
    yield console
    os.close(console.slave)


def work(on_progress: OnProgress) -> dict[str, Any]:
    on_progress(Progress("half", 1, 2))
    return {"generation": 2, "text": "saved as generation 2"}


def fail(_: OnProgress) -> dict[str, Any]:
    raise RamosError(
        "cannot save", "/persist", "it is full", "The default is what it was", "Prune."
    )


def hang(_: OnProgress) -> dict[str, Any]:
    time.sleep(3600)
    return {}


def elsewhere(target: Path, _: OnProgress) -> dict[str, Any]:
    return {"path": str(target / "file")}


def go(console: Console, save: Any, config: SaveConfig = QUICK, boot: Boot = DEFAULT) -> Outcome:
    return save_at_shutdown(boot, config, save, elsewhere, Consoles([console.path]))


def test_a_save_that_works(console: Console) -> None:
    outcome = go(console, work)
    assert outcome.result == "saved"
    time.sleep(0.2)
    assert "100 %" in console.text


def test_clean_mode_and_the_setting_save_nothing(console: Console) -> None:
    assert go(console, fail, boot=Boot(mode=Mode.CLEAN)).result == "clean"
    assert go(console, fail, SaveConfig(at_shutdown=False)).result == "off"


def test_nobody_answers_one_more_try_then_the_end(console: Console) -> None:
    outcome = go(console, fail)
    assert outcome.result == "failed"
    assert "nobody answered" in outcome.text
    assert "it is full" in outcome.error
    time.sleep(0.2)
    assert console.text.count("THE SAVE FAILED") == 2


def test_a_hanging_save_is_given_up(console: Console) -> None:
    outcome = go(console, hang)
    assert outcome.result == "failed"
    assert "no progress" in outcome.error


def test_giving_up_and_retrying_on_the_console(console: Console, tmp_path: Path) -> None:
    console.answers = ["xr", "r", "g"]
    tries = tmp_path / "tries"

    def count(on_progress: OnProgress) -> dict[str, Any]:
        with tries.open("a") as file:
            file.write("x")
        return fail(on_progress)

    outcome = go(console, count, PATIENT)
    assert outcome.text.startswith("gave up as asked")
    assert tries.read_text() == "xxx"


def test_what_cannot_be_saved_elsewhere_is_no_word_of_the_login(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console.answers = ["s", "1"]
    monkeypatch.setattr(order, "list_targets", lambda: [(tmp_path, 1 << 30)])

    def leave_out(target: Path, _: OnProgress) -> dict[str, Any]:
        return {"path": str(target / "file"), "left_out": ["/home/x/y: it is too deep"]}

    outcome = save_at_shutdown(DEFAULT, PATIENT, fail, leave_out, Consoles([console.path]))
    assert outcome.result == "elsewhere"
    assert "/home" not in outcome.text
    assert outcome.error == "NOT SAVED: /home/x/y: it is too deep"
    time.sleep(0.2)
    assert "NOT SAVED: /home/x/y" in console.text


def test_a_retry_that_works_is_a_save(console: Console, tmp_path: Path) -> None:
    console.answers = ["r"]
    flag = tmp_path / "flag"

    def second_time(on_progress: OnProgress) -> dict[str, Any]:
        if flag.exists():
            return work(on_progress)
        flag.touch()
        return fail(on_progress)

    assert go(console, second_time, PATIENT).result == "saved"


def test_signals_do_not_end_it(console: Console) -> None:
    def slow(on_progress: OnProgress) -> dict[str, Any]:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(os.getppid(), number)
            os.kill(os.getpid(), number)
        return work(on_progress)

    assert go(console, slow).result == "saved"


def test_a_dead_console_does_not_matter(console: Console, tmp_path: Path) -> None:
    consoles = [tmp_path / "absent", console.path]
    outcome = save_at_shutdown(DEFAULT, QUICK, work, elsewhere, Consoles(consoles))
    assert outcome.result == "saved"


def test_a_worker_that_is_killed_is_an_error() -> None:
    def die(_: OnProgress) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    with pytest.raises(RamosError, match="without a word"):
        run_worker(die, quiet, 10)


def test_bytes_that_move_are_progress() -> None:
    def silent(_: OnProgress) -> dict[str, Any]:
        time.sleep(2.5)
        return {"done": True}

    beats = iter(range(1000))
    assert run_worker(silent, quiet, 1, lambda: next(beats)) == {"done": True}


def test_progress_line() -> None:
    assert "  0 %" in draw_progress(Progress(""), 0)
    assert "about 31 s left" in draw_progress(Progress("writing", 1, 4), 10)
    assert "left" not in draw_progress(Progress("", 4, 4), 10)
    assert "100 %" in draw_progress(Progress("", 7, 1), 10)


def test_targets_are_only_what_outlives_the_boot(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    lines = [
        f"36 35 8:1 / {tmp_path} rw - ext4 /dev/sda1 rw",
        f"36 35 8:1 /a {tmp_path}/again rw - ext4 /dev/sda1 rw",
        "37 35 8:2 / /proc rw - proc proc rw",
        "38 35 8:3 / /persist rw - ext4 /dev/sdb2 rw",
        "39 35 8:4 / /run/ramos/upper rw - btrfs /dev/zram0 rw",
        "40 35 8:5 / /usr ro - ext4 /dev/sdc1 ro",
        "41 35 0:9 / /tmp rw - tmpfs tmpfs rw",
    ]
    assert [str(target) for target, _ in list_targets("\n".join(lines))] == [str(tmp_path)]


def merge_for_ever(on_progress: OnProgress) -> dict[str, Any]:
    on_progress(Progress("writing"))
    return hang(on_progress)


def merge(console: Console, work: Any, stall_seconds: float = 60) -> str:
    """What the console shows of a merge, once it is over."""
    order.merge_when_saved(work, Consoles([console.path]), stall_seconds, lambda: 0)
    time.sleep(0.2)
    return console.text


def test_a_merge_is_skipped_by_a_key(console: Console) -> None:
    console.answers = ["xs"]
    text = merge(console, merge_for_ever)
    assert re.search(r"RAMOS: writing, \d+ s", text)
    assert "left to another time: it is not wanted any more" in text


def test_a_merge_has_its_time(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MERGE_SECONDS", 2)
    assert "for 2 s at most" in merge(console, merge_for_ever)


def test_a_merge_that_hangs_is_given_up(console: Console) -> None:
    assert "no progress for 1 s" in merge(console, merge_for_ever, 1)


def test_where_nothing_is_merged_nothing_is_said(console: Console) -> None:
    assert merge(console, lambda _: {}) == ""
