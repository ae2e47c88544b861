"""The configuration: defaults, drop-ins, and what is said of a broken one."""

import pytest

from ramos.config import Config, merge, parse_duration


def test_no_file_gives_the_defaults() -> None:
    loaded = merge([])
    assert loaded.config == Config()
    assert not loaded.problems
    assert {setting.source for setting in loaded.settings} == {"default"}


def test_later_files_win_and_are_named() -> None:
    loaded = merge([("a.toml", "[save]\nkeep = 7\n"), ("b.toml", "[save]\nkeep = 9\n")])
    assert loaded.config.save.keep == 9
    assert {s.key: s.source for s in loaded.settings}["save.keep"] == "b.toml"


def test_a_wrong_key_is_named_with_line_and_nearest() -> None:
    loaded = merge([("a.toml", "[save]\nkeep = 7\nexclud = []\n")])
    assert loaded.problems == ("a.toml:3: no key save.exclud; did you mean exclude?",)
    assert loaded.config.save.keep == 7


def test_wrong_values_leave_the_default() -> None:
    text = '[save]\nkeep = "many"\nreserve_mib = -1\n[memory]\nwarn_percent = ["x"]\n'
    loaded = merge([("a.toml", text)])
    assert loaded.config == Config()
    assert [p.split(":")[1] for p in loaded.problems] == ["2", "3", "5"]


def test_unknown_table_and_broken_toml() -> None:
    loaded = merge([("a.toml", "[sav]\n"), ("b.toml", "[[["), ("c.toml", "[save]\nkeep = 3\n")])
    assert loaded.problems[0] == "a.toml:1: no table [sav]; did you mean save?"
    assert loaded.problems[1].startswith("b.toml: ")
    assert loaded.config.save.keep == 3


def test_a_word_that_is_none_of_the_known_ones() -> None:
    loaded = merge([("a.toml", '[memory]\ntoram = "always"\n'), ("b.toml", "[memory]\ntoram = 1")])
    assert loaded.problems == (
        "a.toml:2: memory.toram must be one of now, later, no, not always; the default stays",
        "b.toml:2: memory.toram must be of type str, not int; the default stays",
    )
    assert merge([("a.toml", '[memory]\ntoram = "no"\n')]).config.memory.toram == "no"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("30min", 1800), ("2h", 7200), ("1 min", 60), ("168h", 604800)),
        *(("", None), ("0min", None), ("169h", None), ("30", None), ("30 seconds", None)),
        *(("-1h", None), ("1.5h", None), ("\u0663h", None), ("30min\n", None), ("h", None)),
    ],
)
def test_how_long_is_read(text: str, seconds: int | None) -> None:
    assert parse_duration(text) == seconds


def test_a_time_that_is_none_is_named() -> None:
    loaded = merge([("a.toml", '[save]\nevery = "now"\n')])
    assert loaded.config.save.every == ""
    said = "save.every must be a time from 1min to 168h, such as 30min or 2h, not now"
    assert loaded.problems == (f"a.toml:2: {said}; the default stays",)
    assert merge([("a.toml", '[save]\nevery = ""\n')]).problems == ()
