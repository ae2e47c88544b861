"""--json: one object, with a number for its form; errors are objects, too."""

import json
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest

from ramos import cli, errors
from ramos.cli import JSON, SCHEMA, root
from ramos.layout import Places
from tests.unit.cli.conftest import REPOSITORY, ramos


def ask(places: Places, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the object, and what people are told."""
    done = ramos(places, *words)
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("words", [("status",), ("log",), ("health",), ("config",), ("verify",)])
def test_an_object_says_of_which_form_it_is(places: Places, words: tuple[str, ...]) -> None:
    code, shown, _ = ask(places, *words, "--json")
    assert (code, shown["schema"]) == (0, SCHEMA)
    assert len(shown) > 1


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("show", "7", "--json"), 2, "is absent"),
        (("rollback", "--json"), 1, "it is not mounted"),
        (("prune", "--keep", "x", "--json"), 2, "'x' is not a valid integer"),
        (("prune", "--json", "--no-such"), 2, "No such option"),
    ],
)
def test_an_error_is_an_object_too(
    places: Places, words: tuple[str, ...], code: int, reason: str
) -> None:
    returned, shown, told = ask(places, *words)
    assert returned == shown["error"]["exit_code"] == code
    assert reason in shown["error"]["reason"]
    assert shown["schema"] == SCHEMA
    assert reason in told, "people read it, too"


def test_what_was_printed_is_the_only_object(places: Places) -> None:
    folder = places.run.parent / "recipes"
    folder.mkdir()
    (folder / "bad.toml").write_text("no recipe")
    code, shown, told = ask(places, "pkg", "recipes", "--recipes-dir", str(folder), "--json")
    assert code != 0
    assert "bad.toml" in shown["problems"][0]
    assert "bad.toml" in told


def list_commands(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from list_commands(command)


def test_every_command_asks_for_json_in_the_same_way() -> None:
    expected = JSON(click.Command("x")).params[0].to_info_dict()
    found = [p for c in list_commands(root) for p in c.params if "--json" in p.opts]
    assert len(found) > 20
    assert all(option.to_info_dict() == expected for option in found)
    assert all(option.callback is cli._note_json for option in found)


def test_the_manual_has_the_table_of_exit_codes() -> None:
    section = (REPOSITORY / "man/ramos.1").read_text().partition(".SH EXIT STATUS")[2]
    told = {int(n) for n in re.findall(r"^\.B (\d+)$", section.partition(".SH ")[0], re.M)}
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert told == {0, *codes}


def test_exit_codes_are_named() -> None:
    for path in (REPOSITORY / "ramos").rglob("*.py"):
        assert not re.search(r"(sys\.exit|Exit)\(\d", path.read_text()), path
