"""The way through questions: forwards, back, and where it stays; no terminal is needed."""

from collections.abc import Iterable

import pytest

from ramos.cli.dialog import Answers, Choice, Dialog, Question, pick_choice
from ramos.errors import RamosError, RefusedError

CHOICES = (Choice("yes"), Choice("no"), Choice("never"))


def keep(word: str, name: str) -> Answers:
    if word == "bad":
        raise RefusedError("cannot use", repr(word), "it is bad", hint="Take another.")
    return {name: word}


def ask(name: str, **more: object) -> Question:
    """A question whose answer is what was typed."""
    words: dict[str, object] = {
        "text": lambda _: name,
        "read": lambda word, _: keep(word, name),
        "default": lambda answers: answers.get(name, f"{name}-default"),
        **more,
    }
    return Question(name, **words)  # type: ignore[arg-type]


THREE = (
    ask("one"),
    ask("two", is_wanted=lambda answers: answers["one"] != "skip"),
    ask("three"),
)


def walk(questions: tuple[Question, ...], typed: str) -> tuple[list[str], Dialog]:
    """Which questions were asked, and the end."""
    dialog, asked = Dialog(questions, {"one": ""}, lambda *_: ()).begin(), []
    for word in typed.split(","):
        assert dialog.question is not None
        asked.append(dialog.question.name)
        dialog = dialog.take(word)
    return asked, dialog


@pytest.mark.parametrize(
    ("typed", "asked", "answers"),
    [
        ("a,b,c", "one two three", "a b c"),
        ("a,<,,b,c", "one two one two three", "a b c"),
        ("a,b, < ,<,d,,", "one two three two one two three", "d b three-default"),
        ("skip,<,a,b,c", "one three one two three", "a b c"),
        ("a,b,bad,c", "one two three three", "a b c"),
    ],
)
def test_the_way_through(typed: str, asked: str, answers: str) -> None:
    seen, end = walk(THREE, typed)
    assert " ".join(seen) == asked
    assert end.question is None
    assert " ".join(end.answers[name] for name in ("one", "two", "three")) == answers


def test_what_is_not_wanted_is_not_asked() -> None:
    seen, end = walk(THREE, "skip,c")
    assert (seen, end.question) == (["one", "three"], None)
    assert end.asked == ("one", "three")


def test_before_the_first_question_is_nothing() -> None:
    _, dialog = walk(THREE, "<")
    assert dialog.question is not None
    assert (dialog.question.name, dialog.told) == ("one", ("This is the first question.",))
    assert dialog.take("a").told == ()


def test_a_wrong_answer_changes_nothing_and_says_why() -> None:
    _, dialog = walk(THREE, "a,bad")
    assert dialog.told == ("cannot use: 'bad': it is bad. Take another.",)
    assert "two" not in dialog.answers


def test_what_stands_against_an_answer_is_asked_again() -> None:
    def find(name: str, answers: Answers) -> Iterable[RamosError]:
        if (name, answers["one"]) == ("two", "a"):
            yield RefusedError("cannot build", "it", "not with a")

    dialog = Dialog(THREE, {"one": "", "two": "old"}, find).begin().take("a").take("b")
    assert dialog.question is not None
    assert (dialog.question.name, dialog.answers["two"]) == ("two", "old")
    assert dialog.told == ("cannot build: it: not with a.",)
    assert dialog.take("<").take("c").take("b").answers["two"] == "b"


def test_a_question_can_send_back_to_another_one() -> None:
    _, dialog = walk((ask("one"), ask("two", again="one")), "a,bad")
    assert dialog.question is not None
    assert (dialog.question.name, dialog.told != ()) == ("one", True)


def test_what_is_hidden_is_taken_as_it_was_typed() -> None:
    _, dialog = walk((ask("one", is_hidden=True),), " a b ")
    assert dialog.answers["one"] == " a b "
    _, dialog = walk((ask("one"),), " a b ")
    assert dialog.answers["one"] == "a b"


@pytest.mark.parametrize(
    ("word", "meant"), [("yes", "yes"), ("Y", "yes"), ("NO", "no"), ("nev", "never"), ("", "")]
)
def test_the_beginning_of_a_choice_is_enough(word: str, meant: str) -> None:
    assert pick_choice(word, CHOICES) == meant


@pytest.mark.parametrize("word", ["n", "maybe", "yess"])
def test_what_is_no_choice_or_several_is_told(word: str) -> None:
    with pytest.raises(RamosError, match="it takes yes or no or never"):
        pick_choice(word, CHOICES)
