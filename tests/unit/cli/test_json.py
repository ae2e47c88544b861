"""--json: one object, with a number for its form; errors are objects, too."""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest

from ramos import cli, errors
from ramos.cli import JSON, SCHEMA, root, runtime
from ramos.layout import Places
from tests.unit.cli.conftest import REPOSITORY, ramos

# Every other command answers in JSON.
WITHOUT_JSON = {
    "boot-acls": "run by a service alone, which keeps its lines",
    "completion": "what it prints is a script",
    "run": "of vm: it hands the terminal to a machine, or prints a script",
    "shutdown-save": "run by a service alone, and talks to the consoles",
}


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
        (("--no-such", "status", "--json"), 2, "No such option"),
        (("statsu", "--json"), 2, "Did you mean status"),
        (("pin", "7", "--json"), 1, "it is not mounted"),
        (("restore-file", "7", "/etc", "--json"), 2, "is absent"),
        (("export", "7", "file", "--json"), 2, "is absent"),
        (("import", "/no/such/file", "--json"), 1, "it is not mounted"),
        (("key", "add", "--device", "/dev/null", "--json"), 1, "it is not encrypted"),
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
    commands = [c for c in list_commands(root) if not isinstance(c, click.Group) or c.params]
    options = [(c.name, [p for p in c.params if "--json" in p.opts]) for c in commands]
    assert sorted(str(name) for name, asked in options if not asked) == sorted(WITHOUT_JSON)
    found = [option for _, asked in options for option in asked]
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


@pytest.mark.parametrize("stop", [KeyboardInterrupt, click.Abort])
def test_whoever_is_interrupted_gives_an_object_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stop: type[Exception]
) -> None:
    def wait(*_: object) -> None:
        raise stop

    monkeypatch.setattr(sys, "argv", ["ramos", "config", "--json"])
    monkeypatch.setattr(runtime, "load_settings", wait)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = json.loads(capsys.readouterr().out)
    assert shown["error"]["exit_code"] == ended.value.code == errors.EXIT_INTERRUPTED
