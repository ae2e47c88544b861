"""The first hour of a user: few questions with good defaults, and a summary before anything.

Owns: when it asks, how questions look, and the summary. Refuses: which questions (`questions`), the
way through them (`dialog`), and what stands against an answer (`request`). Invariant: what the
build would refuse is told as soon as the last answer that it depends on is given, and asked again.
"""

import sys
from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from ramos.cli import show_line
from ramos.cli.dialog import BACK, Answers, Dialog, Question
from ramos.cli.prompt import read_line, read_secret
from ramos.cli.provision import list_offered
from ramos.cli.questions import GO_ON, list_questions
from ramos.cli.request import Request, find_last, find_refusals, read_request
from ramos.errors import RamosError, UsageError
from ramos.image import figures, plan
from ramos.stick import disks


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


def ask_options(context: click.Context, options: Answers) -> Answers:
    """The options, completed by what the user answers."""

    def is_open(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.DEFAULT

    questions = list_questions(is_open, list_offered(), lambda told: read_request(told).plan.base)
    return run_dialog(make_dialog(questions, options))


def make_dialog(questions: tuple[Question, ...], options: Answers) -> Dialog:
    """The dialog about these options; what nobody is asked about is looked at now."""

    def find_faults(name: str, answers: Answers) -> list[RamosError]:
        if name == "base":
            show_line("Asking the mirror ...", err=True)
        asked = [question.name for question in questions if question.is_wanted(answers)]
        try:
            request = read_request(answers)
        except RamosError as error:
            return [error]
        return [refusal.error for refusal in find_refusals(request, asked=asked, last=name)]

    dialog = Dialog(questions, options, find_faults).begin()
    request = read_request(options, is_base_known="base" not in dialog.asked)
    for refusal in find_refusals(request, asked=dialog.asked, last=None):
        raise refusal.error
    return dialog


def run_dialog(dialog: Dialog) -> Answers:
    """Ask until everything is answered, and nothing stands against it."""
    show_line("RAMOS: a few questions. Enter takes what is in brackets; Ctrl-C stops.", err=True)
    show_line(f"{BACK} goes back to the question before.", err=True)
    while (question := dialog.question) is not None:
        if question.name == GO_ON:
            request = read_request(dialog.answers)
            if (again := find_way_back(dialog, request)) is not None:
                dialog = again
                continue
            show_line("", err=True)
            for name, value in describe_request(request).items():
                show_line(f"  {name:<14} {value}", err=True)
        for line in dialog.told:
            show_line(line, err=True)
        dialog = dialog.take(read_answer(question, dialog.answers))
    if not dialog.answers[GO_ON]:
        raise UsageError("stopped", "the questions", "the answer was no")
    return dialog.answers


def find_way_back(dialog: Dialog, request: Request) -> Dialog | None:
    """The first question that has to be answered in another way; none when all is well."""
    refusals = find_refusals(request)
    for refusal in refusals:
        if find_last(refusal.about, dialog.asked) is None:
            raise refusal.error
    about = {find_last(refusal.about, dialog.asked) for refusal in refusals}
    first = next((name for name in dialog.asked if name in about), None)
    return dialog.return_to(first, [refusal.error for refusal in refusals]) if first else None


def read_answer(question: Question, answers: Answers) -> str:
    """Show a question, and what can be chosen; give what was typed."""
    choices = question.list_choices(answers)
    has_notes = any(choice.note for choice in choices)
    text, default = question.text(answers), question.default(answers)
    if has_notes:
        show_line(f"{text}:", err=True)
        for choice in choices:
            show_line(f"  {choice.word:<9} {choice.note}".rstrip(), err=True)
    elif choices:
        text = f"{text} ({'/'.join(choice.word for choice in choices)})"
    shown = f"{text} [{default}]" if default else text
    return read_secret(shown) if question.is_hidden else read_line(shown)


def describe_request(request: Request) -> dict[str, str]:
    """The summary: what is built, what it takes, and what it overwrites."""
    rows, chosen = plan.summarize_plan(request.plan), request.plan
    if takes := figures.describe_build(chosen.base, chosen.profile):
        rows["takes"] = takes
    if request.disk:
        rows["overwrites"] = disks.describe(request.disk)
    elif chosen.output.is_file():
        rows["overwrites"] = str(chosen.output)
    return rows
