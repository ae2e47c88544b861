"""Saving by itself: what makes a save due, what holds it back, and that one is enough."""

from dataclasses import replace
from typing import Any

import pytest

from ramos.config import Config, SaveConfig
from ramos.daemon.autosave import Writing
from ramos.daemon.events import (
    Action,
    BatteryChanged,
    Event,
    JobDone,
    LidClosed,
    Log,
    Measured,
    Reload,
    Save,
    Start,
    StickGone,
    Tell,
)
from ramos.daemon.pressure import Memory
from ramos.daemon.sources import read_battery
from ramos.daemon.step import State, step

MIB = 1 << 20
ON = Config(save=SaveConfig(every="30min", on_battery_low=True, on_lid_close=True))
LOW, FULL = BatteryChanged(9, discharging=True), BatteryChanged(80, discharging=True)
HARDLY_UP = BatteryChanged(12, discharging=True)
DONE = JobDone(Save("battery"))


def at(minute: float, used: int = 0, **writing: Any) -> Measured:
    return Measured(60 * minute, Memory(1000, 900), 0, Writing(used, **writing))


def play(*events: Event, config: Config = ON, **state: Any) -> list[Action]:
    """What is done from the first look on; memory, scrubs and the stick's words apart."""
    known, done = State(config=config, next_scrub=1e9, **state), list[Action]()
    for event in events:
        known, actions = step(known, event)
        done += [action for action in actions if isinstance(action, Start | Log)]
    return done


@pytest.mark.parametrize(
    ("events", "reasons"),
    [
        ([at(0), at(29), at(30), at(31)], ["timer"]),
        ([at(0), at(30), JobDone(Save("timer")), at(59), at(60)], ["timer", "timer"]),
        ([at(0), at(20, saved_mark=7), at(30, saved_mark=7), at(49, saved_mark=7)], []),
        ([at(0), at(20, saved_mark=7), at(50, saved_mark=7)], ["timer"]),
        ([at(0), LidClosed(), at(1)], ["lid"]),
        ([at(0), LOW, LOW, at(1)], ["battery"]),
        ([at(0), LOW, LidClosed(), at(1)], ["battery"]),  # one save does for both
        ([at(0), LidClosed(), at(30), LidClosed(), LOW, at(31)], ["lid"]),  # it is at work
        ([at(0), LOW, at(1, saved_mark=7)], []),  # somebody was quicker
        ([at(0), FULL, BatteryChanged(5, discharging=False), at(1)], []),
        ([at(0), LOW, at(1), DONE, HARDLY_UP, LOW, at(2)], ["battery"]),
        ([at(0), LOW, at(1), DONE, FULL, LOW, at(2)], ["battery", "battery"]),
    ],
)
def test_what_makes_a_save_due(events: list[Event], reasons: list[str]) -> None:
    assert play(*events) == [Start(Save(reason)) for reason in reasons]


@pytest.mark.parametrize("event", [LidClosed(), LOW, at(999)])
def test_it_is_off_by_default(event: Event) -> None:
    assert play(at(0), event, at(1000), config=Config()) == []


def test_settings_count_at_once() -> None:
    assert play(at(0), at(99), Reload(ON), at(100), config=Config())[-1:] == [Start(Save("timer"))]


@pytest.mark.parametrize(
    ("state", "more", "why"),
    [
        ({"clean": True}, {}, "clean mode"),
        ({"stick": "gone"}, {}, "the stick is gone"),
        ({}, {"rollback_waits": True}, "a rollback waits"),
    ],
)
def test_what_is_never_saved_over_is_said(state: Any, more: Any, why: str) -> None:
    done = play(at(0, **more), at(30, **more), at(31, **more), LidClosed(), at(32, **more), **state)
    assert [type(action) for action in done] == [Log, Log], "once for each"
    assert all(why in action.text for action in done if isinstance(action, Log))


def test_it_waits_while_much_is_written_and_says_so_once() -> None:
    busy = [at(0), at(30, 9000 * MIB), at(30.1, 9010 * MIB), at(30.2, 9010 * MIB)]
    done = play(*busy)
    assert [type(action) for action in done] == [Log, Start]
    assert "postponed" in str(done[0])
    overwriting = [replace(event, writing=Writing(0, event.writing.used_bytes)) for event in busy]
    assert [type(action) for action in play(*overwriting)] == [Log, Start]
    assert [type(action) for action in play(at(0), at(30, 1000))] == [Start], "a little is nothing"


def test_a_failure_is_told_once_and_without_its_words() -> None:
    """They may name any file."""
    state, told = State(config=ON), list[str]()
    for error in ("cannot save: /home/x", "cannot save: /home/x", "", "cannot save: /home/x"):
        state, actions = step(state, JobDone(Save("lid"), error))
        told += [action.text for action in actions if isinstance(action, Tell)]
    assert len(told) == 2
    assert "/home" not in "".join(told)


def test_the_stick_that_goes_takes_what_was_due_with_it() -> None:
    done = play(at(0), LidClosed(), StickGone(), at(1), at(2))
    assert [type(action) for action in done] == [Log]


@pytest.mark.parametrize(
    ("words", "battery"),
    [
        ("type=Battery capacity=9 status=Discharging", LOW),
        ("type=Battery capacity=80 status=Charging", BatteryChanged(80, discharging=False)),
        ("type=Battery capacity=80 capacity_level=Critical status=Discharging", (5, True)),
        ("type=Battery capacity_level=Low status=Discharging", (10, True)),
        ("type=Battery capacity_level=Normal status=Discharging", None),
        ("type=Battery capacity=-1 status=Discharging", None),
        ("type=Battery scope=Device capacity=9 status=Discharging", None),  # a mouse
        ("type=Mains online=0", None),
        ("", None),
    ],
)
def test_batteries_that_the_machine_runs_on_are_read(words: str, battery: Any) -> None:
    pairs = (word.split("=") for word in words.split())
    properties = {f"POWER_SUPPLY_{key.upper()}": value for key, value in pairs}
    wanted = BatteryChanged(*battery) if isinstance(battery, tuple) else battery
    assert read_battery({"SUBSYSTEM": "power_supply", **properties}) == wanted
