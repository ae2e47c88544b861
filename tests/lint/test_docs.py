"""Every command has examples and a man page; every man page is sound; no leftovers in the docs."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ramos.cli import COMMANDS, LazyGroup, root
from tests.lint import rules

MAN_PAGES = sorted((rules.REPOSITORY / "man").glob("*.[1-8]"))


def list_commands(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    """All commands that do something and are not hidden, with their full names."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from list_commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


LEAVES = list(list_commands(root, "ramos")) if COMMANDS else []


@pytest.mark.parametrize(("name", "command"), LEAVES, ids=[name for name, _ in LEAVES])
def test_help_has_examples(name: str, command: click.Command) -> None:
    text = f"{command.help}\n{command.epilog}"
    assert "Example" in text, f"{name} --help shows no example"
    assert name in text, f"the example of {name} does not call it"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name}: {parameter.opts[-1]} has no help"


@pytest.mark.parametrize(("name", "command"), LEAVES, ids=[name for name, _ in LEAVES])
def test_man_pages_name_each_command_and_option(name: str, command: click.Command) -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in MAN_PAGES)
    plain = pages.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "")
    assert name in plain or name.removeprefix("ramos ") in plain, f"no man page names {name}"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            longest = max(parameter.opts, key=len)
            assert longest in plain, f"no man page names {name} {longest}"


@pytest.mark.parametrize("page", MAN_PAGES, ids=lambda page: page.name)
def test_man_page_is_sound(page: Path) -> None:
    argv = ["mandoc", "-T", "lint", "-W", "error", str(page)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", MAN_PAGES, ids=lambda page: page.name)
def test_man_page_is_found_by_its_name_and_from_the_first_one(page: Path) -> None:
    """What `man -k` shows comes from the line NAME: one word, and what it is."""
    text = page.read_text(encoding="utf-8").replace("\\-", "-")
    assert f".SH NAME\n{page.stem} - " in text
    front = (rules.REPOSITORY / "man/ramos.1").read_text(encoding="utf-8").replace("\\-", "-")
    mentioned = f".BR {page.stem} ({page.suffix[1:]})" in front.partition(".SH SEE ALSO")[2]
    assert mentioned or page.name == "ramos.1"


def test_the_root_is_lazy() -> None:
    assert isinstance(root, LazyGroup)
