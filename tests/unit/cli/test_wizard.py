"""The builder's questions: when it asks, the way back, and what is asked again."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ramos.cli import wizard
from ramos.cli.wizard import Answers, GoBackError, Question
from ramos.errors import RamosError, RefusedError, UsageError
from ramos.image import checks
from ramos.image.checks import Refusal

NOTHING: dict[str, Any] = {"batch": False, "try_it": False, "plan_only": False}


@pytest.mark.parametrize("told", NOTHING)
def test_who_is_told_enough_asks_nothing(told: str) -> None:
    assert not wizard.is_wanted({**NOTHING, told: True})


def test_without_a_terminal_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(UsageError, match="no --batch"):
        wizard.is_wanted(NOTHING)


def make_questions(typed: str, asked: list[str]) -> list[Question]:
    """Three questions; the answers are these words, < is the way back."""
    words = iter(typed.split())

    def make(option: str) -> Question:
        def ask(_: Answers) -> Answers:
            asked.append(option)
            if (word := next(words)) == "<":
                raise GoBackError
            return {option: word}

        return Question(option, ask)

    return [make(option) for option in ("one", "two path", "three")]


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("a b c", "one two three"),
        ("a < b c d", "one two one two three"),
        ("< < a b c", "one one one two three"),
        ("a b < < d e f", "one two three two one two three"),
    ],
)
def test_each_question_has_a_way_back(typed: str, asked: str) -> None:
    seen: list[str] = []
    answers = wizard.answer_all(make_questions(typed, seen), {}, lambda _: [], lambda _: None)
    assert " ".join(option.split()[0] for option in seen) == asked
    assert [*answers.values()] == typed.split()[-3:]


def test_there_is_a_way_back_from_the_summary() -> None:
    seen: list[str] = []
    turns = iter([True, False])

    def confirm(_: Answers) -> None:
        if next(turns):
            raise GoBackError

    answers = wizard.answer_all(make_questions("a b c d", seen), {}, lambda _: [], confirm)
    assert seen == ["one", "two path", "three", "three"]
    assert answers["three"] == "d"


def refuse_once(question: str) -> Callable[[Answers], list[Refusal]]:
    error = RefusedError("cannot build", "it", "a reason")
    turns = iter([[Refusal("", error), Refusal(question, error)], []])
    return lambda _: next(turns)


def test_what_would_be_refused_is_told_and_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    questions = make_questions("a b c d e", seen)
    answers = wizard.answer_all(questions, {}, refuse_once("two"), lambda _: None)
    assert seen[3:] == ["two path", "three"]
    assert (answers["two path"], answers["three"]) == ("d", "e")
    assert capsys.readouterr().out.count("That cannot be built: cannot build: it: a reason") == 2


def test_what_nobody_was_asked_about_ends_it() -> None:
    with pytest.raises(RamosError, match="a reason"):
        wizard.answer_all(make_questions("a b c", []), {}, refuse_once("keys"), lambda _: None)


def test_every_check_is_about_a_question() -> None:
    options = {question.option.split()[0] for question in wizard.QUESTIONS}
    assert {check.question for check in checks.CHECKS} <= {"", *options}


@pytest.mark.parametrize(
    ("option", "typed", "told"),
    [
        ("user", "Not A Name\n\n", "small letters, digits"),
        ("user", "root\n\n", "the system uses it"),
        ("hostname", "-\n\n", "letters, digits and -"),
        ("timezone", "Mars/Olympus\n\n", "no zone has this name"),
        ("base", "gentoo\n\n", "gentoo"),
        ("profile", "huge\n\n", "huge"),
    ],
)
def test_a_wrong_answer_is_explained_and_asked_for_again(
    option: str,
    typed: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "UTC").touch()
    monkeypatch.setattr(checks, "ZONES", tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    question = next(q for q in wizard.QUESTIONS if q.option == option)
    default = {"user": "ann", "hostname": "box", "timezone": "UTC", "profile": "minimal"}
    answers = {"base": "debian", **default}
    assert question.ask(answers) == {option: answers[option]}
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("option", ["base", "user"])
def test_a_sign_goes_back(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("<\n"))
    question = next(q for q in wizard.QUESTIONS if q.option == option)
    with pytest.raises(GoBackError):
        question.ask({"base": "auto", "user": "ann"})
