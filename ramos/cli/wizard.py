"""The first hour of a user: few questions with good defaults, and a summary before anything.

Owns: what is asked, in which order, and when nothing may be asked. Refuses: deciding; every answer
is the value of an option, and an option that was given is not asked for.
"""

import sys
from dataclasses import replace
from typing import Any

import click
from click.core import ParameterSource

from ramos.cli import show_line
from ramos.cli.provision import list_offered
from ramos.errors import UsageError
from ramos.image import plan
from ramos.stick import disks

WORDS = (
    ("user", "Name of the user"),
    ("hostname", "Name of the machine"),
    ("timezone", "Time zone"),
    ("keymap", "Keyboard"),
)

NEUTRAL_PLAN = plan.Plan()


def is_wanted(options: dict[str, Any]) -> bool:
    """Whether to ask; without a terminal to ask on, --batch has to say that nothing is asked."""
    if options["batch"] or options["try_it"] or options["plan_only"]:
        return False
    if not sys.stdin.isatty():
        raise UsageError(
            "cannot ask",
            "the terminal",
            "there is none, and no --batch",
            hint="Give --batch to take the options and the defaults.",
        )
    return True


def ask_options(context: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """The options, completed by what the user answers."""
    answers = dict(options)

    def is_open(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.DEFAULT

    show_line("RAMOS: a few questions. Enter takes what is in brackets; Ctrl-C stops.")
    show_line("")
    if is_open("base"):
        answers["base"] = _choose("Base", plan.BASES, options["base"])
    if is_open("profile"):
        answers["profile"] = _choose("Profile", plan.PROFILES, options["profile"])
    if is_open("path") and is_open("output"):
        answers["path"] = _ask_place(options["path"])
    for name, text in WORDS:
        if is_open(name):
            answers[name] = _ask_word(text, name, options[name])
    if is_open("password_file"):
        answers["password"] = _ask_password()
    if is_open("encrypt"):
        answers["encrypt"] = click.confirm("Encrypt your data", default=False)
    return answers


def confirm_summary(rows: dict[str, str]) -> None:
    """Show what will be done, and go on only with a yes."""
    show_line("")
    for name, value in rows.items():
        show_line(f"  {name:<14} {value}")
    if not click.confirm("\nGo on", default=True):
        raise UsageError("stopped", "the wizard", "the answer was no")


def _choose(text: str, choices: tuple[str, ...], default: str) -> str:
    answer: str = click.prompt(text, type=click.Choice(choices), default=default)
    return answer


def _ask_word(text: str, name: str, default: str) -> str:
    """A word that the plan accepts; a bad one is explained and asked for again."""

    def convert(word: str) -> str:
        changes: dict[str, Any] = {name: word}
        try:
            plan.check_plan(replace(NEUTRAL_PLAN, **changes))
        except UsageError as error:
            raise click.BadParameter(str(error)) from error
        return word

    answer: str = click.prompt(text, default=default, value_proc=convert)
    return answer


def _ask_place(default: str | None) -> str | None:
    """An image file, or one of the disks that may be written to."""
    offered = list_offered()
    if not offered:
        show_line("No free removable disk is plugged in: an image file will be made.")
        return default
    show_line("Where to?")
    show_line("  0  an image file")
    for number, disk in enumerate(offered, 1):
        show_line(f"  {number}  {disks.describe(disk)}")
    number = click.prompt("Number", type=click.IntRange(0, len(offered)), default=0)
    return offered[number - 1].path if number else default


def _ask_password() -> bytes:
    """The user's password, typed twice; nothing means that there is none."""
    text = "Password of the user (empty: none, console only)"
    first: str = click.prompt(text, hide_input=True, default="", show_default=False)
    if not first:
        return b""
    while click.prompt("Again", hide_input=True, default="", show_default=False) != first:
        show_line("The two differ.")
        first = click.prompt(text, hide_input=True, default="", show_default=False)
    return first.encode()
