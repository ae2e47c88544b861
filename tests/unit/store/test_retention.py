"""Which generations stay: real saves by number, named ones longer, one for each day and week."""

from dataclasses import replace

import pytest

from ramos.config import SaveConfig
from ramos.store.generation import COMPACTED, Generation, StoredFile
from ramos.store.retention import DAY_SECONDS, plan_prune

BARE = SaveConfig(keep=2, keep_named=0, keep_daily=0, keep_weekly=0)
START = 1_763_700_000 // (7 * DAY_SECONDS) * 7 * DAY_SECONDS


def save(number: int, **more: object) -> Generation:
    """A save that changes something, on top of the one before."""
    layer = StoredFile("layer", f"{number}", 1, f"{number}")
    made = Generation(number, number - 1, START + number, "6.1", "user", "", (layer,))
    return replace(made, **more)  # type: ignore[arg-type]


def keep(
    made: list[Generation], config: SaveConfig, pins: tuple[int, ...] = (), *, room: bool = True
) -> list[int]:
    gone = {old.number for old in plan_prune(made, pins, config, (), room=room)}
    return [generation.number for generation in made if generation.number not in gone]


def test_the_newest_saves_the_default_its_parent_and_pins_stay() -> None:
    made = [save(number) for number in range(1, 8)]
    assert keep(made, BARE) == [6, 7]
    assert keep(made, replace(BARE, keep=3), (2,)) == [2, 5, 6, 7]
    made[-1] = replace(made[-1], parent=3)
    assert keep(made, BARE) == [3, 6, 7]
    assert keep([], BARE) == []


@pytest.mark.parametrize("reason", ["rollback", COMPACTED])
def test_what_repeats_a_state_takes_no_place(reason: str) -> None:
    made = [save(1), save(2), *(save(number, reason=reason) for number in range(3, 9))]
    assert keep(made, BARE) == [1, 2, 7, 8]


def test_a_save_without_changes_takes_no_place() -> None:
    made = [save(1), save(2)]
    made += [save(number, files=made[-1].files, message="again") for number in range(3, 7)]
    assert keep(made, BARE) == [1, 2, 5, 6]
    assert keep(made, replace(BARE, keep_named=9)) == [1, 2, 5, 6]


def test_messages_keep_longer_where_there_is_room() -> None:
    made = [save(number, message="before" if number in (1, 3, 5) else "") for number in range(1, 9)]
    named = replace(BARE, keep_named=2)
    assert keep(made, named) == [3, 5, 7, 8]
    assert keep(made, named, room=False) == [7, 8]


def test_the_last_save_of_each_day_and_week_stays() -> None:
    # Three a day, for twenty days.
    made = [save(n, created=START + (n - 1) // 3 * DAY_SECONDS + n) for n in range(1, 61)]
    assert keep(made, replace(BARE, keep_daily=3)) == [54, 57, 59, 60]
    assert keep(made, replace(BARE, keep_weekly=3)) == [21, 42, 59, 60]
    assert keep(made, replace(BARE, keep_daily=3, keep_weekly=3), room=False) == [59, 60]


def test_a_clock_that_jumps_costs_nobody_the_newest() -> None:
    made = [save(n, created=START + (50 - n) * DAY_SECONDS) for n in range(1, 20)]
    assert keep(made, replace(BARE, keep_daily=2)) == [18, 19]
    made = [save(n, created=0) for n in range(1, 20)]
    assert keep(made, replace(BARE, keep_daily=5, keep_weekly=5)) == [18, 19]


@pytest.mark.parametrize("reason", ["timer", "battery", "lid"])
def test_saves_that_nobody_asked_for_push_out_none_that_somebody_did(reason: str) -> None:
    made = [save(1), save(2), save(3), *(save(number, reason=reason) for number in range(4, 9))]
    assert keep(made, BARE) == [2, 3, 7, 8]
    assert keep(made[3:], BARE) == [7, 8], "and they have a place as well"
