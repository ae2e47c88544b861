"""What ramosd decides: tables of events and what must come of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ramos.config import Config, LinksConfig, MemoryConfig
from ramos.daemon.events import (
    Action,
    Event,
    Job,
    JobDone,
    Leave,
    LinksChanged,
    Measured,
    MeetStick,
    MountsChanged,
    Note,
    PowerPressed,
    Reload,
    Return,
    Start,
    StickGone,
    StickSeen,
    SyncLinks,
    Task,
    Tell,
)
from ramos.daemon.pressure import Memory
from ramos.daemon.step import State, step

TOTAL_KIB = 500_000
BACK = Return(Path("/dev/sdb2"))
SEEN = StickSeen(BACK.node, True)


def at(now: float, available_percent: float, fill: float = 0, used_kib: int = 0) -> Measured:
    return Measured(
        now, Memory(TOTAL_KIB, int(TOTAL_KIB * available_percent / 100), used_kib), fill
    )


def play(state: State, *events: Event) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    for event in events:
        state, more = step(state, event)
        actions += more
    return state, actions


def jobs(actions: list[Action]) -> list[Job]:
    return [action.job for action in actions if isinstance(action, Start)]


def fresh(**values: object) -> State:
    return State(next_scrub=1e9, **values)  # type: ignore[arg-type]


def test_the_swapfile_comes_on_only_when_memory_is_nearly_out() -> None:
    state, actions = play(fresh(), at(1, 50), at(2, 9))
    assert jobs(actions) == []
    state, actions = play(state, at(3, 7), at(4, 5))
    assert jobs(actions) == [Task.SWAP_ON], "once, however long it takes"
    state, _ = play(state, JobDone(Task.SWAP_ON))
    assert state.swap == "on"


def test_the_swapfile_goes_off_only_after_a_calm_time() -> None:
    state, actions = play(
        fresh(swap="on"), at(0, 60), at(20, 60), at(25, 10), at(26, 60), at(40, 60)
    )
    assert jobs(actions) == [], "the shortage in between starts the time again"
    state, actions = play(state, at(57, 60))
    assert jobs(actions) == [Task.SWAP_OFF]
    assert play(state, JobDone(Task.SWAP_OFF))[0].swap == "off"


def test_what_lies_in_the_swapfile_must_fit_before_it_is_released() -> None:
    used = TOTAL_KIB * 40 // 100
    assert jobs(play(fresh(swap="on"), at(0, 50, 0, used), at(99, 50, 0, used))[1]) == []


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (fresh(swap_allowed=False), "layers are mounted from the stick"),
        (fresh(stick="gone"), "the stick is gone"),
    ],
)
def test_no_swapfile_where_it_must_not_be(state: State, why: str) -> None:
    _, actions = play(state, at(1, 3), at(2, 3), at(3, 3))
    told = [action.text for action in actions if isinstance(action, Tell)]
    assert jobs(actions) == []
    assert len(told) == 1
    assert why in told[0]


def test_a_swapfile_that_cannot_be_used_is_told_and_tried_again_later() -> None:
    state, actions = play(fresh(), at(1, 3), JobDone(Task.SWAP_ON, "it has holes"))
    assert any(isinstance(action, Tell) and "it has holes" in action.text for action in actions)
    assert state.swap == "off"


def test_switched_off_by_the_settings() -> None:
    config = Config(memory=MemoryConfig(swapfile=False))
    assert jobs(play(fresh(config=config), at(1, 1))[1]) == []


def test_each_fill_level_is_told_once() -> None:
    state, actions = play(
        fresh(), *(at(n, 60, fill) for n, fill in enumerate((50, 79, 81, 85, 91)))
    )
    assert [a.text[:4] for a in actions if isinstance(a, Tell)] == ["81 %", "91 %"]
    _, actions = play(state, at(9, 60, 89), at(10, 60, 91))
    assert actions == [], "no chatter around a level"
    _, actions = play(state, at(9, 60, 70), at(10, 60, 91))
    assert len(actions) == 1


def test_the_largest_growth_is_asked_for_and_told() -> None:
    state, actions = play(fresh(), at(1, 60, 81), at(2, 60, 91))
    assert jobs(actions) == [Task.GROWTH], "one at a time"
    state, actions = play(state, JobDone(Task.GROWTH, "", "Most of it is in /opt: 2.0 GiB."))
    assert actions == [Tell("Most of it is in /opt: 2.0 GiB.")]
    _, actions = play(state, JobDone(Task.GROWTH, "it hangs"), at(3, 60, 96))
    assert [type(action) for action in actions] == [Note, Tell, Start]
    _, actions = play(fresh(), StickGone(), at(1, 60, 81))
    assert jobs(actions) == [], "no program can be started from a stick that is gone"


def test_the_clock_is_slow_when_nothing_happens_and_fast_when_something_does() -> None:
    idle, _ = play(fresh(), at(1, 80, 10), at(21, 80, 10))
    filling, _ = play(idle, at(41, 80, 20))
    short, _ = play(idle, at(41, 10, 10))
    assert idle.tick_seconds > 10
    assert filling.tick_seconds == short.tick_seconds == 2


def test_the_stick_goes_and_comes_back() -> None:
    state, actions = play(fresh(), StickGone(), StickGone())
    assert state.stick == "gone"
    assert [type(action) for action in actions] == [Tell, Note], "told once"
    state, actions = play(state, SEEN, SEEN)
    assert jobs(actions) == [BACK], "one return at a time"
    state, actions = play(state, JobDone(BACK, "", "back"))
    assert state.stick == "present"
    assert actions == [Tell("back"), MeetStick(), SyncLinks()]


def test_a_stick_that_the_boot_released_is_taken_back_without_a_word() -> None:
    state, actions = play(fresh(), StickGone(released=True), StickGone())
    assert (state.stick, actions) == ("gone", [])
    state, actions = play(state, SEEN, JobDone(BACK, "", "back"))
    assert state.stick == "present"
    assert actions == [Start(BACK), MeetStick(), SyncLinks()]
    _, actions = play(state, StickGone())
    assert Tell in map(type, actions), "the next time somebody pulled it"


EJECTED = MountsChanged(mounted=False, there=False)


def test_a_stick_that_was_ejected_is_taken_back_when_it_was_out() -> None:
    state, actions = play(fresh(swap="on", toram="failed"), EJECTED, SEEN, at(1, 3))
    assert (state.stick, state.swap, state.toram) == ("gone", "off", "done")
    assert not state.reads_stick
    assert jobs(actions) == [], "it is still plugged in, and left alone"
    state, actions = play(state, StickGone(), SEEN, JobDone(BACK, "", "back"))
    assert actions == [Start(BACK), Tell("back"), MeetStick(), SyncLinks()]


def test_a_stick_that_a_command_takes_back_is_in_use_again() -> None:
    there = MountsChanged(mounted=True, there=True)
    assert play(fresh(), there) == (fresh(), [])
    state, actions = play(fresh(), EJECTED, there)
    assert (state.stick, state.ejected) == ("present", False)
    assert actions == [MeetStick(), SyncLinks()]
    dead = MountsChanged(mounted=True, there=False)
    assert play(fresh(), dead) == (fresh(), []), "the stick's own event tells of that"
    assert play(fresh(stick="gone"), dead)[1] == []
    state, actions = play(fresh(stick="gone"), SEEN, there)
    assert (state.stick, jobs(actions)) == ("gone", [BACK]), "it has to be checked first"


def test_a_return_that_fails_leaves_it_gone_and_the_next_one_is_tried() -> None:
    state, _ = play(fresh(stick="gone"), SEEN)
    state, actions = play(state, JobDone(BACK, "damaged"))
    assert state.stick == "gone"
    assert any(isinstance(action, Tell) and "damaged" in action.text for action in actions)
    assert jobs(play(state, SEEN)[1]) == [BACK]


def test_another_stick_is_refused_aloud() -> None:
    state, actions = play(fresh(stick="gone"), StickSeen(Path("/dev/sdc2"), False))
    assert state.stick == "gone"
    assert jobs(actions) == []
    assert isinstance(actions[0], Tell)


def test_other_sticks_are_no_news_while_ours_is_there() -> None:
    assert play(fresh(), StickSeen(Path("/dev/sdc2"), False))[1] == []


def test_an_encrypted_stick_waits_for_its_passphrase() -> None:
    _, actions = play(fresh(stick="gone", luks=True), SEEN)
    assert jobs(actions) == []
    assert isinstance(actions[0], Tell)
    assert "ramos reconnect" in actions[0].text


def test_the_swapfile_is_given_up_with_the_stick() -> None:
    state, actions = play(fresh(swap="on"), StickGone())
    assert jobs(actions) == [Task.SWAP_OFF]
    assert play(state, JobDone(Task.SWAP_OFF, "it is dead"))[0].swap == "off"


def test_scrub_when_it_is_due_and_never_twice_at_once() -> None:
    state = State(next_scrub=1000)
    state, actions = play(state, at(700, 50), at(1001, 50), at(1002, 50))
    assert jobs(actions) == [Task.SCRUB]
    state, actions = play(state, JobDone(Task.SCRUB, "layer x is damaged"))
    assert any(isinstance(a, Tell) and "layer x is damaged" in a.text for a in actions)
    assert not state.scrubbing
    assert state.next_scrub > 1000 + 86400


def test_no_scrub_while_the_system_starts_or_the_stick_is_gone() -> None:
    assert jobs(play(State(next_scrub=0), at(30, 50))[1]) == []
    assert jobs(play(State(next_scrub=0, stick="gone"), at(9999, 50))[1]) == []


def test_links_follow_events_unless_switched_off() -> None:
    assert play(fresh(), LinksChanged())[1] == [SyncLinks()]
    off = Config(links=LinksConfig(enabled=False))
    assert play(fresh(config=off), LinksChanged())[1] == []


def test_new_settings_count_at_once() -> None:
    config = Config(memory=MemoryConfig(swap_on_percent=50, swap_off_percent=60))
    _, actions = play(fresh(), Reload(config), at(1, 40))
    assert jobs(actions) == [Task.SWAP_ON]


def test_the_power_button_powers_off() -> None:
    assert jobs(play(fresh(), PowerPressed())[1]) == [Task.POWER_OFF]


def test_base_images_are_sealed_once_after_the_boot() -> None:
    state, actions = play(fresh(seal="needed"), at(60, 50))
    assert jobs(actions) == []
    state, actions = play(state, StickGone(), at(120, 50))
    assert jobs(actions) == [], "there is nothing to seal"
    state, actions = play(state, SEEN, JobDone(BACK), at(140, 50), at(160, 50))
    assert jobs(actions) == [BACK, Task.SEAL]
    assert state.seal == "running"
    _, actions = play(state, JobDone(Task.SEAL, "cannot seal: rootfs.squashfs: damaged"))
    assert [type(action) for action in actions] == [Note, Tell]


def test_the_power_button_works_without_any_program() -> None:
    _, actions = play(fresh(stick="gone"), PowerPressed(), JobDone(Task.POWER_OFF, "unreadable"))
    assert jobs(actions) == [Task.POWER_OFF]
    assert actions[-1] == Leave()
    _, actions = play(fresh(), PowerPressed(), JobDone(Task.POWER_OFF, "unreadable"))
    assert Leave() not in actions, "with the stick there, it was something else"


QUARTER_KIB = TOTAL_KIB // 4
COPIES = fresh(toram="waiting", toram_bytes=1024 * QUARTER_KIB)


def test_images_go_to_ram_by_themselves_and_once() -> None:
    state, actions = play(COPIES, at(59, 60), at(61, 60), at(81, 60))
    assert jobs(actions) == [Task.TO_RAM]
    state, actions = play(state, JobDone(Task.TO_RAM, "", "it can be pulled out"), at(101, 60))
    assert actions == [Tell("it can be pulled out")]
    assert (state.toram, state.reads_stick) == ("done", False)
    _, actions = play(state, StickGone(), SEEN, JobDone(BACK, "", "back"), at(121, 60))
    told = [action.text for action in actions if isinstance(action, Tell)]
    assert "cannot be started" not in told[0]
    assert told[1:] == ["back"]
    assert jobs(actions) == [BACK]


@pytest.mark.parametrize(("available_percent", "starts"), [(50, True), (49, False)])
def test_a_quarter_of_the_ram_stays_free(available_percent: int, starts: bool) -> None:
    """The copies take a quarter here, so half has to be there; a later moment may have it."""
    state, actions = play(COPIES, at(61, available_percent))
    assert jobs(actions) == ([Task.TO_RAM] if starts else [])
    assert jobs(play(state, at(81, 60))[1]) == ([] if starts else [Task.TO_RAM])


@pytest.mark.parametrize(
    "busy", [{"seal": "running"}, {"scrubbing": True}, {"stick": "gone"}, {"returning": True}]
)
def test_images_wait_while_the_stick_is_at_work(busy: dict[str, Any]) -> None:
    assert jobs(play(replace(COPIES, **busy), at(61, 60))[1]) == []


@pytest.mark.parametrize(("word", "now", "starts"), [("no", 99, 0), ("now", 1, 1), ("later", 1, 0)])
def test_the_settings_say_when_images_go_to_ram(word: str, now: float, starts: int) -> None:
    _, actions = play(COPIES, Reload(Config(memory=MemoryConfig(toram=word))), at(now, 60))
    assert jobs(actions) == [Task.TO_RAM] * starts


def test_images_that_init_leaves_on_the_stick_stay_there() -> None:
    assert jobs(play(fresh(toram="no"), at(61, 99))[1]) == []


def test_copies_that_fail_are_told_and_tried_again_with_the_stick_back() -> None:
    state, actions = play(COPIES, at(61, 60), JobDone(Task.TO_RAM, "x is damaged"), at(81, 60))
    assert actions[1:] == [Note("to-ram", "x is damaged"), Tell("x is damaged")]
    assert state.reads_stick
    state, actions = play(state, StickGone(), SEEN, JobDone(BACK), at(101, 60))
    assert jobs(actions) == [BACK, Task.TO_RAM]
    _, actions = play(state, StickGone(), JobDone(Task.TO_RAM, "Input/output error"))
    assert len([action for action in actions if isinstance(action, Tell)]) == 1, "it is known"


def test_layers_in_ram_let_the_swapfile_be_used() -> None:
    state, _ = play(replace(COPIES, swap_allowed=False), at(61, 60), JobDone(Task.TO_RAM))
    state, actions = play(state, at(81, 3), JobDone(Task.SWAP_ON))
    assert actions[0] == Start(Task.SWAP_ON)
    assert isinstance(actions[1], Tell)
    assert "Leave the stick in" in actions[1].text, "all had been told that it can go"
    assert play(fresh(), at(81, 3), JobDone(Task.SWAP_ON))[1] == [Start(Task.SWAP_ON)]


@pytest.mark.parametrize("job", [*Task, BACK], ids=str)
def test_every_job_that_fails_is_on_record_under_its_name(job: Job) -> None:
    _, actions = play(fresh(), JobDone(job, "no room"))
    assert [action for action in actions if isinstance(action, Note)] == [Note(str(job), "no room")]
