"""The builder's questions on a real terminal: wrong answers, the way back, Ctrl-C, small and plain.

The mirror is a folder, and nothing is built.
"""

import os
import re
import sys
from pathlib import Path

import pexpect
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
# The beginning of each question, and an answer.
ANSWERS = (
    ("Base .auto.", "debian"),
    ("Profile .rescue.", "minimal"),
    ("Where to .file.|Image file.*ramos.img.", ""),
    ("Name of the user", "ann"),
    ("Name of the machine", ""),
    ("Time zone", ""),
    ("Keyboard", ""),
    ("Password of ann", "secret"),
    ("Again", "secret"),
    ("Encrypt your data", "yes"),
    ("Passphrase", "a long one"),
    ("Again", "a long one"),
    ("Go on", ""),
)
PLAIN = {"LC_ALL": "C", "LANG": "C", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mirror that answers, and a place for the image."""
    release = tmp_path / "mirror/dists/bookworm/InRelease"
    release.parent.mkdir(parents=True)
    release.write_text("signed\n")
    (tmp_path / "keys").touch()
    return tmp_path


def ask(folder: Path, *words: str, columns: int = 80, **more: str) -> "pexpect.spawn[str]":
    argv = ["-m", "ramos", "image", "build", "--release", "bookworm", "--cache", f"{folder}/cache"]
    argv += ["--mirror", f"{folder}/mirror", "--keys", f"{folder}/keys", *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", **more}
    environment.pop("COLUMNS", None)  # pytest's workers have it, and it goes before the terminal
    child = pexpect.spawn(
        sys.executable, argv, cwd=folder, env=environment, timeout=60, encoding="utf-8",
        dimensions=(24, columns),
    )  # fmt: skip
    # A question is there once it was expected: nothing is typed ahead.
    child.delaybeforesend = None
    return child


def answer_some(child: "pexpect.spawn[str]", count: int) -> str:
    """Answer the first questions; what was shown so far."""
    shown = ""
    for question, typed in ANSWERS[:count]:
        child.expect(f"(?s){question}[^\r\n]*: ")
        shown += str(child.before) + str(child.after)
        if question.startswith("Where"):
            typed = "file" if "Where" in str(child.after) else "x.img"
        child.sendline(typed)
        if typed == "file":
            child.expect("Image file.*: ")
            child.sendline("x.img")
    if count < len(ANSWERS):
        child.expect(f"(?s){ANSWERS[count][0]}[^\r\n]*: ")
        shown += str(child.before) + str(child.after)
    return shown


def end(child: "pexpect.spawn[str]") -> tuple[int, str]:
    """How it ends, and what is said then."""
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus or 0, str(child.before)


def is_untouched(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {"mirror", "keys"}


@pytest.mark.parametrize("count", range(len(ANSWERS)))
@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_ctrl_c_and_the_end_of_input_end_it_in_one_line(folder: Path, count: int, key: str) -> None:
    child = ask(folder)
    answer_some(child, count)
    child.send(key)
    code, said = end(child)
    lines = [line for line in said.replace("^C", "").splitlines() if line.strip()]
    told = " ".join(" ".join(lines).split())
    if key == "\x03":
        assert code == 130
        assert told == "ramos: stopped: the questions: Ctrl-C was pressed. Nothing was changed."
    else:
        assert code == 2
        assert told.startswith("ramos: cannot ask: the terminal: the input has ended. Nothing")
    assert is_untouched(folder)


@pytest.mark.parametrize(("columns", "more"), [(80, {}), (80, PLAIN), (40, PLAIN)])
def test_it_fits_a_small_and_plain_terminal(
    folder: Path, columns: int, more: dict[str, str]
) -> None:
    child = ask(folder, columns=columns, **more)
    shown = answer_some(child, len(ANSWERS) - 1)
    assert shown.isascii()
    assert "\x1b" not in shown
    prompts = r"Image file.*|Password of.*|Encrypt.*|Passphrase.*|Name of.*"
    for line in shown.splitlines():
        # A terminal breaks a question by itself; a name is never broken.
        if not re.fullmatch(prompts, line) and str(folder) not in line:
            assert len(line) <= columns, line
    child.sendline("no")
    assert end(child)[0] == 2
    assert is_untouched(folder)


def test_wrong_answers_are_explained_and_there_is_a_way_back(folder: Path) -> None:
    child = ask(folder, "--base", "debian", "--output", f"{folder}/x.img")
    for question, answer in (
        ("Profile", "<"),
        ("This is the first question.*Profile", "huge"),
        ("it takes rescue or minimal.*Profile", "min"),
        ("Name of the user", "Not A Name"),
        ("bad --user.*Name of the user", "ann"),
        ("Name of the machine", "<"),
        (r"Name of the user \[ann\]", ""),
        ("Name of the machine", "stick"),
        ("Time zone", ""),
        ("Keyboard", "de"),
        ("Password of ann", ""),
        ("Encrypt", "y"),
        ("Passphrase", ""),
        ("it is empty.*Passphrase", "a long one"),
        ("Again", "another one"),
        ("the two differ.*Passphrase", "a long one"),
        ("Again", "a long one"),
        ("hostname +stick.*Go on", "<"),
        ("Passphrase.*as before", "<"),
        (r"Encrypt.*\[yes\]", "n"),
        ("encryption +none.*Go on", "n"),
    ):
        child.expect(f"(?s){question}[^\r\n]*: ")
        child.sendline(answer)
    code, said = end(child)
    assert code == 2
    assert "Nothing was changed" in " ".join(said.split())
    assert is_untouched(folder)


def test_a_passphrase_is_asked_for_once_where_it_is_all_that_is_open(folder: Path) -> None:
    given = ("--base", "debian", "--profile", "minimal", "--output", f"{folder}/x.img", "--user")
    words = (*given, "ann", "--hostname", "a", "--timezone", "UTC", "--keymap", "us", "--encrypt")
    (folder / "password").write_text("secret\n")
    child = ask(folder, *words, "--password-file", f"{folder}/password")
    for typed in ("a long one", "a long one"):
        child.expect("Passphrase.*: |Again: ")
        child.sendline(typed)
    child.expect("Go on.*: ")
    assert "Passphrase" not in str(child.before)
    child.sendline("no")
    assert end(child)[0] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--output", "/none/x.img"), "there is no directory /none"),
        (("--keys", "/none"), "there is no such keyring"),
        (("--profile", "minimal", "--size", "300M"), "is too small"),
        (("--packages", "--bad"), "bad --packages"),
        (("--passphrase-file", "/none"), "there is no --encrypt"),
    ],
)
def test_what_is_not_asked_is_refused_before_the_first_question(
    folder: Path, words: tuple[str, ...], told: str
) -> None:
    base = () if "--base" in words else ("--base", "debian")
    code, said = end(ask(folder, *words, *base))
    assert code in (1, 2)
    assert told in " ".join(said.split())
    assert "Profile" not in said
