"""How far a save at shutdown is, from steps that say only that they begin."""

from pathlib import Path

import pytest

from ramos.layers import layer
from ramos.layout import Places
from ramos.progress import Progress
from ramos.save import commit
from ramos.shutdown import finalsave


def test_each_step_of_a_save_is_further_than_the_one_before() -> None:
    steps = (commit.SCANNING, layer.WRITING, layer.READING_BACK, commit.PUBLISHING)
    shown = [finalsave.estimate(Progress(step)) for step in steps]
    assert [seen.step for seen in shown] == list(steps)
    assert [seen.percent for seen in shown] == [2, 10, 75, 95]


def test_what_is_known_is_not_estimated() -> None:
    known = Progress(layer.WRITING, 1, 2)
    assert finalsave.estimate(known) == known


def test_the_bytes_that_are_written_tell_how_far_the_writing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    monkeypatch.setattr(finalsave, "_read_sectors", lambda _: (0, written))
    pulse, follow = finalsave.make_meter(Places.below(tmp_path))
    assert pulse() == 0
    assert follow(Progress(layer.WRITING)).percent == 10
    written = 1 << 60
    assert pulse() == written
    assert follow(Progress(layer.WRITING)).percent == 75
    assert follow(Progress(layer.READING_BACK)).percent == 75
