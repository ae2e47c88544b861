"""Faults for what is read line by line: sh, GRUB's language, units of systemd, recipes, lists.

Owns: their operators, and who parses them: a fault that is not even parsed is none.
"""

import re
import subprocess
from collections.abc import Iterator

from tests.faults.fault import Fault

Edit = tuple[str, int, int, str]
FUNCTION = re.compile(r"^(?:function )?([A-Za-z_]\w*) ?(?:\(\))? *[{(]")
COMMAND = re.compile(r"^(\s*)([a-zA-Z_./\"$][^\n]*)$")
# What makes no command of its own, or holds the lines around it together.
KEYWORDS = re.compile(
    r"\s*(if|then|else|elif|fi|for|while|until|do|done|case|esac|local|function|menuentry|submenu)\b"
)
CONDITION = re.compile(r"\b(?:if|elif|while|until) (?=\S)")
ENDING = re.compile(r"\b(return|exit) (\d+)\b")
HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
TESTS = {"-n": "-z", "-z": "-n", "-eq": "-ne", "-ne": "-eq", "-lt": "-le", "-le": "-lt"}
TESTS |= {"-gt": "-ge", "-ge": "-gt", "=": "!=", "!=": "="}
WORD_TEST = re.compile(r"(?<=\s)(-n|-z|-eq|-ne|-lt|-le|-gt|-ge|=|!=)(?=\s)")
JOINS = {"&&": "||", "||": "&&"}


def change_shell(line: str) -> Iterator[Edit]:
    """The faults of one line of sh, or of GRUB's language, which is close enough to it."""
    for found in CONDITION.finditer(line):
        if line[found.end() : found.end() + 2] == "! ":
            yield "negate", found.end(), found.end() + 2, ""
        else:
            yield "negate", found.end(), found.end(), "! "
    for found in re.finditer(r"&&|\|\|", line):
        if line[: found.start()].count("'") % 2 == 0:
            yield "join", found.start(), found.end(), JOINS[found.group()]
    for found in ENDING.finditer(line):
        text = f"{found.group(1)} {'1' if found.group(2) == '0' else '0'}"
        yield "return", found.start(), found.end(), text
    if "[ " in line or "test " in line:
        for found in WORD_TEST.finditer(line):
            yield "compare", found.start(), found.end(), TESTS[found.group()]
    if (command := COMMAND.match(line)) and is_alone(line):
        yield "drop", command.start(2), command.end(2), ":"
    for found in list(re.finditer(r"(?:&&|\|\|) (?=\S)", line))[:1]:
        if not line.endswith(("{", "\\", "then", "do", ";;", "|", "&&")):
            yield "drop", found.end(), len(line), ":"


def is_alone(line: str) -> bool:
    """Whether a line is one whole command."""
    if KEYWORDS.match(line) or FUNCTION.match(line):
        return False
    return not line.rstrip().endswith(("\\", "|", "&&", "||", "{", "(", ")", ";;"))


def change_grub(line: str) -> Iterator[Edit]:
    """As in sh; GRUB has no `:`, but an echo of nothing does as little."""
    for operator, start, end, text in change_shell(line):
        yield operator, start, end, "true" if text == ":" else text


def change_setting(line: str) -> Iterator[Edit]:
    """A setting of a unit, a recipe or a list is not there."""
    if line.strip() and not line.lstrip().startswith("["):
        yield "drop", 0, len(line), ""


def list_code(text: str, *, shell: bool) -> Iterator[tuple[int, int, str, str]]:
    """Number, offset, text and function of the lines that are code: no comment, no document."""
    offset, ending, name, continued = 0, "", "", False
    for number, line in enumerate(text.split("\n"), 1):
        document = bool(ending)
        if ending and line.strip() == ending:
            ending = ""
        elif shell and not ending and (found := HEREDOC.search(line)):
            ending = found.group(1)
        if shell and (function := FUNCTION.match(line)):
            name = function.group(1)
        if not document and not continued and line.strip() and not line.lstrip().startswith("#"):
            yield number, offset, line, name
        continued = line.endswith(("\\", "|", "&&", "||"))
        offset += len(line.encode()) + 1


def find_reader(file: str, source: bytes) -> list[str] | None:
    """The command that parses a file: none for what is no program."""
    if file.endswith(".cfg"):
        return ["grub-script-check"]
    return ["dash", "-n"] if file.endswith(".sh") or source.startswith(b"#!") else None


def parses(file: str, source: bytes) -> bool:
    """Whether its reader takes it at all."""
    reader = find_reader(file, source)
    if reader is None:
        return True
    return subprocess.run(reader, input=source, capture_output=True, check=False).returncode == 0


def list_faults(file: str, source: bytes) -> list[Fault]:
    """All faults that can be planted in a file."""
    program = find_reader(file, source) is not None
    change = change_setting
    if program:
        change = change_grub if file.endswith(".cfg") else change_shell
    faults = []
    for number, offset, line, name in list_code(source.decode(), shell=program):
        for operator, start, end, text in change(line):
            first = offset + len(line[:start].encode())
            after = offset + len(line[:end].encode())
            told = line.strip()
            faults.append(Fault(file, number, told, operator, first, after, text.encode(), name))
    return faults
