"""Every command has examples and a man page; every man page is sound; no leftovers in the docs."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ramos.cli import COMMANDS, LazyGroup, root
from tests.lint import rules

MOST_PICTURE_BYTES = 60 << 10
# A line of README.md -> the line of bench/RESULTS.md that it rounds.
FIGURES = {
    "on the stick": "image, MiB used",
    "RAM in use at idle": "RAM at idle, MiB",
    "from the kernel to the login": "login, s",
    "a save of 1 MB": "a commit of 1 MB, s",
}
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


def test_the_readme_shows_what_is_there() -> None:
    """Pictures and files that it names; a clone is not to be large for them."""
    text = (rules.REPOSITORY / "README.md").read_text(encoding="utf-8")
    pictures = [rules.REPOSITORY / name for name in re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)]
    assert pictures
    assert set(pictures) == set((rules.REPOSITORY / "docs/pictures").iterdir())
    assert all(path.stat().st_size <= MOST_PICTURE_BYTES for path in pictures)
    files = re.findall(r"\b[A-Z]+\.md\b|\bbench/\w+\.md\b|\./[\w-]+\.sh\b", text)
    files += re.findall(r"^\| `(\w[\w-]*/)` \|", text, re.M)
    assert [name for name in files if not (rules.REPOSITORY / name).exists()] == []


def read_row(text: str, section: str, row: str) -> list[float]:
    """The numbers in the cells of a table's row."""
    table = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = re.search(rf"^\| {re.escape(row)} \|(.*)\|$", table, re.M)
    assert cells, f"{section} has no row: {row}"
    return [float(number) for number in re.findall(r"[\d.]+", cells[1])]


@pytest.mark.parametrize(("said", "measured"), FIGURES.items())
def test_the_figures_of_the_readme_are_measured(said: str, measured: str) -> None:
    readme = (rules.REPOSITORY / "README.md").read_text(encoding="utf-8")
    results = (rules.REPOSITORY / "bench/RESULTS.md").read_text(encoding="utf-8")
    shown = read_row(readme, "Times and sizes", said)
    assert shown == pytest.approx(read_row(results, "Two bases", measured), abs=0.5)


def test_the_root_is_lazy() -> None:
    assert isinstance(root, LazyGroup)
