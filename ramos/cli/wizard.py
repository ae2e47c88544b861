"""The first hour of a user: few questions with good defaults, and a summary before anything.

Owns: what is asked, in which order, and the way back. Refuses: deciding; every answer is the value
of an option, and an option that was given is not asked for. Invariant: an answer that the build
would refuse is told at once, and asked for again.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ramos.cli import show_line
from ramos.cli.provision import list_offered
from ramos.errors import RamosError, UsageError
from ramos.image import checks, plan
from ramos.image.checks import Refusal
from ramos.image.plan import Plan
from ramos.stick import disks, luks

BACK = "<"
Value = TypeVar("Value")
Answers = dict[str, Any]
# What is measured is in bench/RESULTS.md.
PROFILE_HELP = (
    "minimal: what boots; the image takes about 90 MiB (Alpine) or 190 MiB (Debian).",
    "rescue: tools for disks and file systems besides; several times that, and minutes to build.",
)
NEUTRAL_PLAN = plan.Plan()


class GoBackError(Exception):
    """The user wants to answer the question before this one again."""


@dataclass(frozen=True)
class Question:
    """`option` is what it answers; `ask` gives the answers that come of it."""

    option: str
    ask: Callable[[Answers], Answers]


def is_wanted(options: Mapping[str, Any]) -> bool:
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


def list_questions(context: click.Context) -> list[Question]:
    """What is asked: everything that the command line leaves open."""

    def is_open(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.DEFAULT

    return [question for question in QUESTIONS if all(map(is_open, question.option.split()))]


def answer_all(
    questions: Sequence[Question],
    answers: Answers,
    find_refusals: Callable[[Answers], Sequence[Refusal]],
    confirm: Callable[[Answers], None],
) -> Answers:
    """Ask one after the other, and back; it ends with answers that nothing stands against."""
    at = 0
    while True:
        try:
            while at < len(questions):
                answers = {**answers, **questions[at].ask(answers)}
                at += 1
            refusals = find_refusals(answers)
            if not refusals:
                confirm(answers)
                return answers
            at = find_question(questions, refusals)
        except GoBackError:
            at = max(at - 1, 0)


def find_question(questions: Sequence[Question], refusals: Sequence[Refusal]) -> int:
    """Show what stands against the answers; where to ask again."""
    asked = [question.option.split()[0] for question in questions]
    again = [asked.index(refusal.question) for refusal in refusals if refusal.question in asked]
    if not again:
        raise refusals[0].error
    for refusal in refusals:
        show_line(f"That cannot be built: {refusal.error}")
    return min(again)


def confirm_summary(rows: Mapping[str, str]) -> None:
    """Show what will be done, and go on only with a yes."""
    show_line("")
    for name, value in rows.items():
        show_line(f"  {name:<14} {value}")
    if not _ask_yes("\nGo on", default=True):
        raise UsageError("stopped", "the wizard", "the answer was no")


def greet() -> None:
    """How to answer."""
    show_line("RAMOS: a few questions. Enter takes what is in brackets; Ctrl-C stops.")
    show_line(f"{BACK} goes back to the question before.")
    show_line("")


def _prompt(
    text: str, default: str, read: Callable[[str], Value], *, is_hidden: bool = False
) -> Value:
    """One answer; what cannot be read is explained, and asked for again."""

    def convert(word: str) -> Value:
        if word.strip() == BACK:
            raise GoBackError
        try:
            return read(word)
        except RamosError as error:
            raise click.BadParameter(str(error)) from error

    answer: Value = click.prompt(
        text,
        default=default,
        value_proc=convert,
        hide_input=is_hidden,
        show_default=bool(default),
    )
    return answer


def _ask_yes(text: str, *, default: bool) -> bool:
    words = {"y": True, "yes": True, "n": False, "no": False, "": default}

    def read(word: str) -> bool:
        if word.strip().lower() not in words:
            raise click.BadParameter("It takes y or n.")
        return words[word.strip().lower()]

    return _prompt(f"{text} ({'Y/n' if default else 'y/N'})", "", read)


def _choose(option: str, text: str, choices: Sequence[str], more: Sequence[str] = ()) -> Question:
    """One of a few words, with what there is to say of them."""

    def ask(answers: Answers) -> Answers:
        for line in more:
            show_line(line)
        kind = click.Choice(list(choices))

        def read(word: str) -> str:
            return str(kind.convert(word, None, None))

        return {option: _prompt(f"{text} ({', '.join(choices)})", answers[option], read)}

    return Question(option, ask)


def _ask_word(option: str, text: str) -> Question:
    """A word that the build accepts."""

    def ask(answers: Answers) -> Answers:
        def read(word: str) -> str:
            changes: dict[str, Any] = {option: word, "base": answers["base"]}
            checks.check_answer(option, replace(NEUTRAL_PLAN, **changes))
            return word

        return {option: _prompt(text, answers[option], read)}

    return Question(option, ask)


def _ask_place(answers: Answers) -> Answers:
    """An image file, or one of the disks that may be written to."""
    offered = list_offered()
    if not offered:
        if not answers["path"]:
            show_line("No free removable disk is plugged in: an image file will be made.")
        return {"path": answers["path"]}
    show_line("Where to?")
    show_line("  0  an image file")
    for number, disk in enumerate(offered, 1):
        show_line(f"  {number}  {disks.describe(disk)}")
    numbers = [str(number) for number in range(len(offered) + 1)]
    kind = click.Choice(numbers)
    number = int(_prompt("Number", "0", lambda word: str(kind.convert(word, None, None))))
    return {"path": offered[number - 1].path if number else None}


def _ask_twice(text: str, check: Callable[[bytes], object]) -> bytes:
    """What is not shown is typed twice; nothing is nothing, where that is allowed."""
    while True:

        def read(word: str) -> str:
            check(word.encode())
            return word

        first = _prompt(text, "", read, is_hidden=True)
        if not first or _prompt("Again", "", str, is_hidden=True) == first:
            return first.encode()
        show_line("The two differ.")


def _ask_password(_: Answers) -> Answers:
    text = "Password of the user (empty: none, console only)"
    return {"password": _ask_twice(text, lambda _: None)}


def _ask_encryption(_: Answers) -> Answers:
    if not _ask_yes("Encrypt your data", default=False):
        return {"encrypt": False, "passphrase": b""}
    passphrase = _ask_twice("Passphrase that unlocks the stick", luks.check_passphrase)
    return {"encrypt": True, "passphrase": passphrase}


def _list_all() -> Iterator[Question]:
    yield _choose("base", "Base", plan.BASES)
    yield _choose("profile", "Profile", plan.PROFILES, PROFILE_HELP)
    yield Question("output path", _ask_place)
    yield _ask_word("user", "Name of the user")
    yield _ask_word("hostname", "Name of the machine")
    yield _ask_word("timezone", "Time zone")
    yield _ask_word("keymap", "Keyboard")
    yield Question("password_file", _ask_password)
    yield Question("encrypt passphrase_file", _ask_encryption)


QUESTIONS = tuple(_list_all())


def describe_choices(chosen: Plan, disk: disks.Disk | None) -> dict[str, str]:
    """The summary: what is built, and what it overwrites."""
    rows = plan.summarize_plan(chosen)
    return {**rows, "overwrites": disks.describe(disk)} if disk else rows
