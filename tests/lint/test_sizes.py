"""No module and no function outgrows its room; every module says what it owns."""

import ast
import re
from pathlib import Path

import pytest

from tests.lint import rules

PYTHON = rules.list_python("ramos", "tests", "bench")
SHELL = rules.list_shell()


def name(path: Path) -> str:
    return str(path.relative_to(rules.REPOSITORY))


# Module below ramos/ -> why it stands alone.
SMALL = {
    "__main__": "says what is missing before anything else can be imported",
    "boot/titles": "what GRUB shows, in a sector of its own; grubenv is what it does",
    "cli/completion": "loads all that a shell may ask for, which no other command needs",
    "cli/passphrase": "the one place where a secret is typed",
    "cli/prompt": "whoever is asked anything is asked by it, passphrases too",
    "daemon/notify": "the one place that knows the service manager's ear",
    "image/bases": "the build and its checks know the bases, which know neither",
    "image/figures": "what was measured, for those who estimate and those who refuse",
    "image/rootless": "goes into a user namespace before the build begins",
    "image/steps": "a build and the writing of a stick have the same steps",
    "layers/overlay": "the one place that mounts layers to look at them",
    "progress": "of the ground: whoever works and whoever shows it know it",
    "save/after": "all savers call it, and it may call none of them",
    "save/space": "asked by commit, compact and import alike",
    "store/public": "records publish, and sessions, and health: it may know none of them",
    "sizes": "of the ground: how bytes are written and read, everywhere",
}


@pytest.mark.parametrize("path", PYTHON + SHELL, ids=name)
def test_module_size(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= rules.MAX_MODULE_LINES


def test_small_modules_have_a_reason() -> None:
    """A module that is almost nothing is one more place to look at."""
    lines = {
        str(path.relative_to(rules.REPOSITORY / "ramos").with_suffix("")): path.read_text(
            encoding="utf-8"
        ).count("\n")
        for path in rules.list_python("ramos")
        if path.name != "__init__.py"
    }
    assert {place for place, count in lines.items() if count < rules.MIN_MODULE_LINES} == set(SMALL)


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_python_function_size(path: Path) -> None:
    for node in ast.walk(rules.parse_python(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= rules.MAX_FUNCTION_LINES, f"{node.name}: {lines} lines"


@pytest.mark.parametrize("path", SHELL, ids=name)
def test_shell_function_size(path: Path) -> None:
    start = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if re.match(r"[A-Za-z_][A-Za-z0-9_]*\(\) *[{(]", line):
            start = number
        elif line in ("}", ")") and start:
            assert number - start + 1 <= rules.MAX_FUNCTION_LINES, f"line {start}"
            start = 0


@pytest.mark.parametrize("path", rules.list_python("ramos"), ids=name)
def test_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(rules.parse_python(path)), "start with what the module owns"


@pytest.mark.parametrize("path", PYTHON + SHELL, ids=name)
def test_no_leftovers(path: Path) -> None:
    if path.name == Path(__file__).name:
        return
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(FIXME|XXX|HACK)\b", text)
    assert not re.search(r"\bTODO(?!\([\w-]+\))", text), "a TODO names what it needs: TODO(name)"
