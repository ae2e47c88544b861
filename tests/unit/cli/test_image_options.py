"""The options of the image builder: a field of `Plan` says each of them once."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ramos import layout
from ramos.cli import image
from ramos.image import plan

MAN = (layout.find_data("man") / "ramos-image.1").read_text()
ITEMS = plan.list_choices()
OPTIONS = {option.name: option for option in image.build_command.params}


def parse(*words: str) -> dict[str, Any]:
    """What the command is called with."""
    return image.build_command.make_context("build", list(words)).params


def read_entry(flag: str) -> str:
    """What the manual says of an option, without the marks of its fonts."""
    plain = re.sub(r"\\f[A-Z]|^\.[A-Z]+ ?", "", MAN.replace("\\-", "-"), flags=re.MULTILINE)
    entry = re.search(rf'^{flag}( "[^\n]*)?\n(.*?)(?=^--|\Z)', plain, re.MULTILINE | re.DOTALL)
    assert entry, f"ramos-image(1) lacks {flag}"
    return entry[0]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)
def test_each_choice_of_a_plan_has_an_option(item: Any) -> None:
    option = OPTIONS[item.name]
    assert isinstance(option, click.Option)
    flag = item.metadata["flag"]
    assert option.opts == [f"--{flag.name or item.name}"]
    if item.name != "cache":  # its default is the user's own
        assert plan.read_choice(item, parse()[item.name]) == item.default


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)
def test_the_manual_names_the_same_words_and_the_same_default(item: Any) -> None:
    flag = item.metadata["flag"]
    said = read_entry(f"--{flag.name or item.name}")
    assert all(choice in said for choice in flag.choices)
    shown = flag.shown or flag.text or (item.default if item.default not in ((), 0, None) else "")
    if not isinstance(shown, bool):
        assert str(shown) in said.replace("\n", " ")


def test_every_option_is_in_the_manual() -> None:
    for option in OPTIONS.values():
        read_entry(option.opts[0])


def test_what_is_typed_becomes_the_plan() -> None:
    typed = parse("--packages", "a, b", "--size", "4G", "--swap", "0", "--keys", "k", "--encrypt")
    values = {item.name: plan.read_choice(item, typed[item.name]) for item in ITEMS}
    assert values["packages"] == ("a", "b")
    assert (values["size_bytes"], values["swap_bytes"]) == (4 << 30, 0)
    assert values["keys"] == Path("k").absolute()
    assert values["encrypt"] is True


@pytest.mark.parametrize("word", ["lots", "-1M", "4Q"])
def test_a_size_that_is_none_is_refused(word: str) -> None:
    done = CliRunner().invoke(
        image.build_command, ["--plan", "--batch", "--base", "debian", "--swap", word]
    )
    assert done.exception is not None
    assert word in str(done.exception)
