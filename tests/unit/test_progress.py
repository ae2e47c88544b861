"""How far work is, as a share and as a number; and that it comes out of a child as it was told."""

import time
from typing import Any

import pytest

from ramos.linux.child import PULSE_SECONDS, run_worker
from ramos.progress import OnProgress, Progress, tell_lines


@pytest.mark.parametrize(
    ("done", "total", "part", "percent"),
    [
        (0, 4, 0.0, 0),
        (1, 4, 0.25, 25),
        (29, 100, 0.29, 29),
        (999, 1000, 0.999, 99),
        (4, 4, 1.0, 100),
        (7, 4, 1.0, 100),
        (-1, 4, 0.0, 0),
        (5, 0, 0.0, 0),
    ],
)
def test_how_much_is_done(done: int, total: int, part: float, percent: int) -> None:
    seen = Progress("writing", done, total)
    assert (seen.part, seen.percent) == (part, percent)


def test_the_parent_sees_what_the_child_told() -> None:
    wanted = [
        Progress("reading", 1, 3, "upperfs/layers/\udcff"),
        Progress("reading", detail="1.0 s", ended=True),
    ]

    def work(on_progress: OnProgress) -> dict[str, Any]:
        for seen in wanted:
            on_progress(seen)
        return {}

    told: list[Progress] = []
    run_worker(work, told.append, 60)
    assert [seen for number, seen in enumerate(told) if seen not in told[:number]] == wanted


def test_what_was_told_last_is_told_again_while_nothing_is_new() -> None:
    def work(on_progress: OnProgress) -> dict[str, Any]:
        on_progress(Progress("writing", 1, 2))
        time.sleep(2.5 * PULSE_SECONDS)
        return {}

    told: list[Progress] = []
    run_worker(work, told.append, 60)
    assert len(told) >= 2
    assert set(told) == {Progress("writing", 1, 2)}


def test_lines_of_a_program_belong_to_a_step() -> None:
    told: list[Progress] = []
    tell_lines(told.append, "installing")("Unpacking tzdata")
    assert told == [Progress("installing", detail="Unpacking tzdata")]
