"""What people see goes through the functions that escape it."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.lint import rules

# They escape what they print themselves.
PRINTERS = {"ramos/cli/__init__.py", "ramos/cli/screen.py"}
STREAM_WRITERS = {"ramos/daemon/loop.py"}


def name(path: Path) -> str:
    return str(path.relative_to(rules.REPOSITORY))


def list_raw_prints(path: Path) -> list[int]:
    """Lines that print more than a constant without the escaping functions."""
    found = []
    for node in ast.walk(rules.parse_python(path)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        constant = all(isinstance(word, ast.Constant) for word in node.args)
        if called in ("click.echo", "click.secho", "print") and not constant:
            found.append(node.lineno)
        if called in ("sys.stdout.write", "sys.stderr.write") and name(path) not in STREAM_WRITERS:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", rules.list_python("ramos"), ids=name)
def test_names_are_printed_by_the_function_that_escapes(path: Path) -> None:
    if name(path) not in PRINTERS:
        assert not list_raw_prints(path), "use show_line of ramos.cli"


# What is counted for people; of a limit there are always many.
COUNTED = re.compile(
    r" (?:\w+ )?(?:access control lists|boots|deletions|directories|entries|files|generations"
    r"|keys|layers|links|packages|saves|sectors|tries)\b"
)


def list_bare_counts(path: Path) -> list[int]:
    """Lines that put a number before a plural, which is wrong for one thing."""
    texts = [n.values for n in ast.walk(rules.parse_python(path)) if isinstance(n, ast.JoinedStr)]
    return [
        number.lineno
        for values in texts
        for number, after in pairwise(values)
        if isinstance(number, ast.FormattedValue)
        and isinstance(after, ast.Constant)
        and COUNTED.match(str(after.value))
        and not ast.unparse(number.value).rpartition(".")[2].isupper()
    ]


@pytest.mark.parametrize("path", rules.list_python("ramos"), ids=name)
def test_one_thing_is_no_plural(path: Path) -> None:
    assert not list_bare_counts(path), "use format_count of ramos.sizes"


@pytest.mark.parametrize("folder", ["ramos", "services", "initramfs-hooks", "grub", "bin", "man"])
def test_nobody_reads_a_plural_in_brackets(folder: str) -> None:
    files = [path for path in (rules.REPOSITORY / folder).rglob("*") if path.is_file()]
    texts = {p: read_words(p) for p in files if p.parent.name != "__pycache__"}
    assert not [path for path, text in texts.items() if re.search(r"[a-z]\(e?s\)", text)]
    in_sh = r"\$\{?[A-Za-z_0-9]+\}? (?:files|layers|boots)\b"
    assert not [path for path, text in texts.items() if re.search(in_sh, text)]


def read_words(path: Path) -> str:
    """A file; of Python what stands in quotes."""
    if path.suffix != ".py":
        return path.read_text(encoding="utf-8")
    constants = (n for n in ast.walk(rules.parse_python(path)) if isinstance(n, ast.Constant))
    return "\n".join(str(node.value) for node in constants)
