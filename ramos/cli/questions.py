"""What the builder asks, as a list: words, defaults, what can be chosen, and what it costs.

Owns: the questions and their order. Refuses: the terminal. Invariant: every answer is the value of
an option; what is measured is said with "about".
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ramos.cli.dialog import Answers, Choice, Question
from ramos.cli.prompt import encode_secret
from ramos.errors import RefusedError
from ramos.image import figures, plan
from ramos.stick import disks, luks
from ramos.stick.disks import Disk

IMAGE_FILE = "file"
NO_PASSWORD = "-"
GO_ON = "go on"
YES, NO = Choice("yes"), Choice("no")
WORDS = {
    "user": "Name of the user",
    "hostname": "Name of the machine",
    "timezone": "Time zone",
    "keymap": "Keyboard",
}
BASE_NOTES = {
    "auto": "Alpine where its mirror answers, else Debian",
    "alpine": "small",
    "debian": "larger, with the most packages",
}
PROFILE_NOTES = {
    "rescue": "tools for data recovery, file systems and disks",
    "minimal": "what boots, saves and updates itself",
}


def list_questions(
    is_open: Callable[[str], bool], offered: Sequence[Disk], find_base: Callable[[Answers], str]
) -> tuple[Question, ...]:
    """What the command line leaves open; `find_base` is what the answer to the first one means."""
    found = [Question("base", _say("Base"), _keep("base"), _show("base"), _list_bases)]
    found.append(_ask_profile(find_base))
    if is_open("path") and is_open("output"):
        found += _ask_place(offered)
    found += [Question(name, _say(text), _keep(name), _show(name)) for name, text in WORDS.items()]
    if is_open("password_file"):
        found += _ask_secret("password", _name_password, _read_password)
    if is_open("passphrase_file"):
        found.append(
            Question(
                "encrypt",
                _say("Encrypt your data"),
                _read_yes("encrypt"),
                lambda told: "yes" if told["encrypt"] else "no",
                lambda _: (YES, NO),
            )
        )
        found += _ask_secret("passphrase", _name_passphrase, _read_passphrase)
    given = {"base", "profile", "encrypt", *WORDS}
    found = [question for question in found if question.name not in given or is_open(question.name)]
    return (*found, Question(GO_ON, _say("Go on"), _read_yes(GO_ON), lambda _: "yes",
                             lambda _: (YES, NO)))  # fmt: skip


def _say(text: str) -> Callable[[Answers], str]:
    return lambda _: text


def _keep(name: str) -> Callable[[str, Answers], Answers]:
    return lambda word, _: {name: word}


def _show(name: str) -> Callable[[Answers], str]:
    return lambda answers: str(answers[name] or "")


def _read_yes(name: str) -> Callable[[str, Answers], Answers]:
    return lambda word, _: {name: word == YES.word}


def _list_bases(_: Answers) -> tuple[Choice, ...]:
    def describe(base: str) -> str:
        least = figures.describe_build(base, "minimal")
        return _join(BASE_NOTES[base], least and f"a minimal image takes {least}")

    return tuple(Choice(base, describe(base)) for base in plan.BASES)


def _ask_profile(find_base: Callable[[Answers], str]) -> Question:
    def list_profiles(answers: Answers) -> tuple[Choice, ...]:
        base = find_base(answers)
        return tuple(
            Choice(name, _join(PROFILE_NOTES[name], figures.describe_build(base, name)))
            for name in plan.PROFILES
        )

    return Question("profile", _say("Profile"), _keep("profile"), _show("profile"),
                    list_profiles)  # fmt: skip


def _join(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def _ask_place(offered: Sequence[Disk]) -> Iterable[Question]:
    """A disk by its name, for numbers change when one is pulled; or the name of a file."""
    names = {disk.name: disk.path for disk in offered}
    choices = [Choice(IMAGE_FILE, "an image file, to be written to a stick later")]
    choices += [Choice(disk.name, disks.describe(disk)) for disk in offered]

    def show(answers: Answers) -> str:
        return next((n for n, path in names.items() if path == answers["path"]), IMAGE_FILE)

    def read(word: str, answers: Answers) -> Answers:
        path = names.get(word)
        return {"path": path, "output": None if path else answers["output"]}

    text = "Image file" if offered else "Image file (no removable disk is free)"
    return (
        Question("path", _say("Where to"), read, show, lambda _: tuple(choices),
                 is_wanted=lambda _: bool(offered)),
        Question("output", _say(text), lambda word, _: {"output": Path(word).expanduser()},
                 lambda answers: str(answers["output"] or plan.Plan.output),
                 is_wanted=lambda answers: not answers["path"]),
    )  # fmt: skip


def _ask_secret(
    name: str, tell: Callable[[Answers], str], read: Callable[[str, Answers], Answers]
) -> Iterable[Question]:
    """Typed twice; `read` leaves in `typed` what has to be typed again."""

    def compare(word: str, answers: Answers) -> Answers:
        if encode_secret(word) != answers["typed"]:
            raise RefusedError("cannot use", name, "the two differ")
        return {name: answers["typed"], "typed": b""}

    def is_wanted(answers: Answers) -> bool:
        return name == "password" or bool(answers["encrypt"])

    def is_repeated(answers: Answers) -> bool:
        return is_wanted(answers) and bool(answers.get("typed"))

    return (
        Question(name, tell, read, is_wanted=is_wanted, is_hidden=True),
        Question(f"{name} again", _say("Again"), compare, is_wanted=is_repeated,
                 is_hidden=True, again=name),
    )  # fmt: skip


def _name_password(answers: Answers) -> str:
    if answers.get("password"):
        return f"Password of {answers['user']} (empty: as before, {NO_PASSWORD}: none)"
    return f"Password of {answers['user']} (empty: none, console only)"


def _read_password(word: str, answers: Answers) -> Answers:
    kept: bytes = answers.get("password", b"")
    if not word or (kept and word == NO_PASSWORD):
        return {"password": b"" if word else kept, "typed": b""}
    return {"typed": encode_secret(word)}


def _name_passphrase(answers: Answers) -> str:
    more = " (empty: as before)" if answers.get("passphrase") else ""
    return f"Passphrase that unlocks the stick{more}"


def _read_passphrase(word: str, answers: Answers) -> Answers:
    if not word and answers.get("passphrase"):
        return {"typed": b""}
    return {"typed": luks.check_passphrase(encode_secret(word))}
