"""Modules import only from lower ranks, and only `run` starts processes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lint import rules

MODULES = rules.list_python("ramos")


def list_imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at any depth, by its full name."""
    for node in ast.walk(rules.parse_python(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                file = rules.REPOSITORY / full.replace(".", "/")
                is_module = file.with_suffix(".py").exists() or file.is_dir()
                yield full if is_module else node.module


@pytest.mark.parametrize("path", MODULES, ids=rules.module_name)
def test_module_has_a_rank_and_imports_lower_ones(path: Path) -> None:
    module = rules.module_name(path)
    rank = rules.find_rank(module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    assert rank is not None, f"{module} has no rank: name it in tests/lint/rules.py"
    assert module in rules.RANKS or module.count(".") > 1, f"name {module} in rules.RANKS"
    for name in list_imports(path):
        if not name.startswith("ramos") or name == "ramos":
            continue
        other = rules.find_rank(name)
        inside_cli = name.startswith("ramos.cli") and package.startswith("ramos.cli")
        assert inside_cli or (other is not None and other < rank), (
            f"{module} (rank {rank}) imports {name} (rank {other})"
        )


@pytest.mark.parametrize("path", MODULES, ids=rules.module_name)
def test_only_run_starts_processes(path: Path) -> None:
    if rules.module_name(path) == "ramos.linux.run":
        return
    assert "subprocess" not in set(list_imports(path))


@pytest.mark.parametrize("path", MODULES, ids=rules.module_name)
def test_only_the_command_line_prints(path: Path) -> None:
    if rules.module_name(path).startswith("ramos.cli"):
        return
    imports = set(list_imports(path))
    assert not {"click"} & imports
    calls = [n for n in ast.walk(rules.parse_python(path)) if isinstance(n, ast.Call)]
    assert not [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


@pytest.mark.parametrize("name", rules.ORACLES)
def test_an_oracle_imports_nothing_of_what_it_judges(name: str) -> None:
    """Nor does anything of the tests that it imports, however far away."""
    waiting, seen = [name], set[str]()
    while waiting:
        module = waiting.pop()
        seen.add(module)
        imports = set(list_imports(rules.REPOSITORY / f"{module.replace('.', '/')}.py"))
        strangers = {other for other in imports if other.split(".")[0] == "ramos"}
        assert not strangers, f"{module} imports {', '.join(sorted(strangers))}"
        waiting += [other for other in imports if other.startswith("tests.") and other not in seen]
