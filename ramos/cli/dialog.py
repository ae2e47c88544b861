"""A dialog as values: questions, answers, and a way back from each.

Owns: which question comes next, what is asked again, and why. Refuses: the terminal (text in, a
new `Dialog` out), and knowing what it is about. Invariants: an answer that is refused changes
nothing; going back forgets no answer.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ramos.errors import RamosError, UsageError

BACK = "<"
Answers = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """A word that can be the answer, and what there is to say of it."""

    word: str
    note: str = ""


@dataclass(frozen=True)
class Question:
    """One question; what depends on the answers so far is a function of them.

    `read` gives what an answer changes, and raises where it cannot be one; `again` names the
    question to go on with then, where it is another one.
    """

    name: str
    text: Callable[[Answers], str]
    read: Callable[[str, Answers], Answers]
    default: Callable[[Answers], str] = lambda _: ""
    list_choices: Callable[[Answers], tuple[Choice, ...]] = lambda _: ()
    is_wanted: Callable[[Answers], bool] = lambda _: True
    is_hidden: bool = False
    again: str = ""


# What stands against an answer to the question of this name.
FindFaults = Callable[[str, Answers], Iterable[RamosError]]


@dataclass(frozen=True)
class Dialog:
    """Where a dialog is; `told` is what there is to say of the last answer."""

    questions: tuple[Question, ...]
    answers: Answers
    find_faults: FindFaults
    at: int = 0
    told: tuple[str, ...] = ()

    @property
    def question(self) -> Question | None:
        """What is asked now; nothing when all is answered."""
        return self.questions[self.at] if self.at < len(self.questions) else None

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of the questions that these answers leave open, in their order."""
        return tuple(item.name for item in self.questions if item.is_wanted(self.answers))

    def begin(self) -> "Dialog":
        """The first question that is wanted."""
        return self._go(range(len(self.questions)), self.answers)

    def take(self, typed: str) -> "Dialog":
        """Go on with an answer, or back, or stay and say why."""
        question = self.question
        assert question is not None
        if typed.strip() == BACK:
            return self._go_back()
        given = typed if question.is_hidden else typed.strip()
        try:
            word = pick_choice(given, question.list_choices(self.answers))
            changes = question.read(word or question.default(self.answers), self.answers)
        except RamosError as error:
            return self.return_to(question.again or question.name, [error])
        answers = {**self.answers, **changes}
        if faults := [*self.find_faults(question.name, answers)]:
            return replace(self, told=tuple(map(describe_fault, faults)))
        return self._go(range(self.at + 1, len(self.questions)), answers)

    def return_to(self, name: str, faults: Iterable[RamosError]) -> "Dialog":
        """Ask a question again, for these reasons."""
        names = [item.name for item in self.questions]
        return replace(self, at=names.index(name), told=tuple(map(describe_fault, faults)))

    def _go_back(self) -> "Dialog":
        before = self._go(range(self.at - 1, -1, -1), self.answers)
        if before.question is None:
            return replace(self, told=("This is the first question.",))
        return before

    def _go(self, places: Iterable[int], answers: Answers) -> "Dialog":
        wanted = (place for place in places if self.questions[place].is_wanted(answers))
        return replace(self, answers=answers, at=next(wanted, len(self.questions)), told=())


def pick_choice(word: str, choices: tuple[Choice, ...]) -> str:
    """The choice that a word means, or the beginning of one; without choices the word itself."""
    if not choices or not word:
        return word
    known = [choice.word for choice in choices]
    same = [other for other in known if other.lower() == word.lower()]
    begun = [other for other in known if other.lower().startswith(word.lower())]
    if len(found := same or begun) == 1:
        return found[0]
    raise UsageError("no such choice", repr(word), f"it takes {' or '.join(known)}")


def describe_fault(error: RamosError) -> str:
    """Why an answer is not taken, without what is said of the state: nothing was begun."""
    said = f"{error.what}: {error.obj}: {error.reason}."
    return f"{said} {error.hint}".strip()
