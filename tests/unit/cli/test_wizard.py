"""The builder's questions: when it asks, how they look, and the way back from the summary."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from ramos.cli import wizard
from ramos.cli.dialog import Answers, Choice, Dialog, Question
from ramos.cli.questions import GO_ON, list_questions
from ramos.cli.request import Request
from ramos.errors import RefusedError, UsageError
from ramos.image import checks
from ramos.image.checks import Check
from ramos.image.plan import Plan
from tests.unit.cli.test_provision import STICK

NOTHING: dict[str, Any] = {"batch": False, "try_it": False, "plan_only": False}
OPTIONS: dict[str, Any] = {
    "base": "debian",
    "profile": "rescue",
    "path": None,
    "output": None,
    "encrypt": False,
    "user": "user",
    "hostname": "ramos",
    "timezone": "UTC",
    "keymap": "us",
}


@pytest.mark.parametrize("told", NOTHING)
def test_who_is_told_enough_asks_nothing(told: str) -> None:
    assert not wizard.is_wanted({**NOTHING, told: True})


def test_without_a_terminal_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(UsageError, match="no --batch"):
        wizard.is_wanted(NOTHING)


def begin(*given: str, **more: Any) -> Dialog:
    """All questions but for what is given, on a machine with one stick."""
    questions = list_questions(lambda name: name not in given, [STICK], lambda told: told["base"])
    return Dialog(questions, {**OPTIONS, **more}, lambda *_: ()).begin()


def answer(dialog: Dialog, **typed: str) -> tuple[list[str], Dialog]:
    """Go to the end; what is not typed is Enter."""
    seen = []
    while dialog.question:
        seen.append(dialog.question.name)
        dialog = dialog.take(typed.get(dialog.question.name.replace(" ", "_"), ""))
    return seen, dialog


def test_enter_takes_every_default() -> None:
    seen, end = answer(begin())
    first = ["base", "profile", "path", "output", "user", "hostname", "timezone", "keymap"]
    assert seen == [*first, "password", "encrypt", GO_ON]
    assert {**OPTIONS, "output": Path("ramos.img")}.items() <= end.answers.items()
    assert (end.answers["password"], end.answers[GO_ON]) == (b"", True)


def test_what_is_given_is_not_asked_for() -> None:
    seen, _ = answer(begin("base", "output", "password_file", "keymap", "encrypt", encrypt=True,
                           passphrase=b"typed"))  # fmt: skip
    assert seen == ["profile", "user", "hostname", "timezone", "passphrase", GO_ON]
    seen, _ = answer(begin("passphrase_file"))
    assert "encrypt" not in seen


def test_a_stick_is_chosen_by_its_name_and_needs_no_file() -> None:
    seen, end = answer(begin(), path="sdz")
    assert (end.answers["path"], end.answers["output"]) == ("/dev/sdz", None)
    assert "output" not in seen
    dialog = begin()
    for typed in ("", "", "file", "a.img", "<", "<", "sdz"):
        dialog = dialog.take(typed)
    assert (dialog.answers["path"], dialog.answers["output"]) == ("/dev/sdz", None)


def test_secrets_are_typed_twice_and_kept_on_the_way_back() -> None:
    dialog = begin()
    while dialog.question and dialog.question.name != "password":
        dialog = dialog.take("")
    typed = dialog.take("one").take("two")
    assert typed.question == dialog.question
    assert "the two differ" in typed.told[0]
    typed = typed.take("\udcfcone").take("\udcfcone")
    assert typed.answers["password"] == b"\xfcone"
    back = typed.take("<")
    assert back.question is not None
    assert "as before" in back.question.text(back.answers)
    assert back.take("").answers["password"] == b"\xfcone"
    assert back.take("-").answers["password"] == b""
    assert dialog.take("-").question.name == "password again"  # type: ignore[union-attr]


def test_a_passphrase_that_differs_is_asked_again() -> None:
    dialog = begin(encrypt=True)
    while dialog.question and dialog.question.name != "passphrase":
        dialog = dialog.take("")
    for wrong, told in (("", "it is empty"), ("x" * 513, "longer than 512"), ("a", "")):
        dialog = dialog.take(wrong)
        assert told in " ".join(dialog.told)
    dialog = dialog.take("b")
    assert dialog.question is not None
    assert (dialog.question.name, "the two differ" in dialog.told[0]) == ("passphrase", True)
    dialog = dialog.take("a").take("a")
    assert dialog.answers["passphrase"] == b"a"
    assert dialog.take("<").take("").answers["passphrase"] == b"a"


def test_sizes_and_times_stand_beside_the_choices() -> None:
    dialog = begin()
    assert dialog.question is not None
    notes = {choice.word: choice.note for choice in dialog.question.list_choices(dialog.answers)}
    assert "about 90 MiB" in notes["alpine"]
    dialog = dialog.take("debian")
    assert dialog.question is not None
    notes = {choice.word: choice.note for choice in dialog.question.list_choices(dialog.answers)}
    assert "about 440 MiB, about 70 s" in notes["rescue"]


def test_a_question_is_drawn_with_its_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def draw(*choices: Choice) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO("typed\n"))
        question = Question("q", lambda _: "Which", lambda word, _: {"q": word},
                            lambda _: "b", lambda _: choices)  # fmt: skip
        assert wizard.read_answer(question, {}) == "typed"
        out, err = capsys.readouterr()
        assert out == "", "standard output is for results"
        return err

    assert draw() == "Which [b]: "
    assert draw(Choice("a"), Choice("b")) == "Which (a/b) [b]: "
    assert draw(Choice("a", "one"), Choice("b")) == "Which:\n  a         one\n  b\nWhich [b]: "


@pytest.fixture
def unlucky(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build to which something comes only after the last question."""

    def refuse(plan: Plan) -> None:
        if plan.hostname == "bad":
            raise RefusedError("cannot build", "bad", "not with this user")

    monkeypatch.setattr(checks, "CHECKS", (Check(("user", "hostname"), refuse),))
    monkeypatch.setattr("ramos.cli.request.REQUEST_CHECKS", ())


@pytest.mark.usefixtures("unlucky")
def test_what_stands_against_all_of_it_leads_back() -> None:
    dialog = begin(hostname="bad")
    request = Request(OPTIONS, Plan(hostname="bad"), "")
    back = wizard.find_way_back(dialog, request)
    assert back is not None
    assert back.question is not None
    assert (back.question.name, "not with this user" in back.told[0]) == ("hostname", True)
    assert wizard.find_way_back(dialog, Request(OPTIONS, Plan(), "")) is None
    with pytest.raises(RefusedError, match="not with this user"):
        wizard.find_way_back(begin("user", "hostname"), request)


def test_the_summary_says_what_is_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "x.img"
    made = Request({}, Plan(base="debian", output=output), "")
    rows = wizard.describe_request(made)
    assert (rows["takes"], "overwrites" in rows) == ("about 440 MiB, about 70 s to build", False)
    output.touch()
    assert wizard.describe_request(made)["overwrites"] == str(output)
    on_disk = Request({}, Plan(base="debian"), "", STICK)
    assert "/dev/sdz" in wizard.describe_request(on_disk)["overwrites"]


def test_no_question_is_wider_than_a_terminal() -> None:
    dialog: Dialog = begin(password=b"x", passphrase=b"x", encrypt=True)
    answers: Answers = dialog.answers
    for question in dialog.questions:
        shown = f"{question.text(answers)} [{question.default(answers)}]: "
        assert len(shown) <= 80
        assert shown.isascii()
