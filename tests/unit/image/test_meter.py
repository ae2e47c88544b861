"""How fast a stick is written, and how long still."""

from types import SimpleNamespace

import pytest

from ramos.image import provision
from ramos.image.provision import Meter, describe_speed
from ramos.progress import Progress

MIB = 1 << 20


@pytest.mark.parametrize(
    ("done", "seconds", "text"),
    [
        (10 * MIB, 2.0, "5.0 MiB/s, 0:04 left"),
        (30 * MIB, 3.0, "10.0 MiB/s, 0:00 left"),
        (MIB, 10.0, "102.4 KiB/s, 4:50 left"),
        (0, 2.0, ""),
        (MIB, 0.0, ""),
    ],
)
def test_speed_and_time_left(done: int, seconds: float, text: str) -> None:
    assert describe_speed(Progress("write", done, 30 * MIB), seconds) == text


def test_not_every_piece_is_told_but_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter((100.0, 100.3, 100.35, 100.4))
    monkeypatch.setattr(provision, "time", SimpleNamespace(monotonic=lambda: next(now)))
    told: list[Progress] = []
    meter = Meter(told.append)
    for done in (1, 2, 4):
        meter(Progress("write", done * MIB, 4 * MIB))
    assert [seen.done for seen in told] == [MIB, 4 * MIB]
    assert told[-1].detail == "10.0 MiB/s, 0:00 left"


def test_probes_have_no_speed() -> None:
    told: list[Progress] = []
    Meter(told.append, count_bytes=False)(Progress("check capacity", 4, 4))
    assert told == [Progress("check capacity", 4, 4)]
