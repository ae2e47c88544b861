"""What people see goes through the functions that escape it."""

import ast
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
