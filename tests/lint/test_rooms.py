"""Who may import whom: one table for the rooms; no circles; who may call the kernel."""

import ast
import graphlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lint import rules

MODULES = rules.list_python("ramos")
IMPORTS = (ast.Import, ast.ImportFrom)
HACKING = rules.REPOSITORY / "HACKING.md"


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
def test_a_room_imports_what_the_table_says(path: Path) -> None:
    room = rules.find_room(rules.module_name(path))
    if not room:
        return  # the package itself: its version
    assert room in (*rules.GROUND, *rules.MAY_IMPORT), (
        f"no room {room}: name it in tests/lint/rules.py"
    )
    allowed = {"", room, *rules.GROUND, *rules.MAY_IMPORT.get(room, ())}
    for name in list_imports(path):
        if name.startswith("ramos"):
            assert rules.find_room(name) in allowed, f"{path}: {room} may not import {name}"


def test_the_table_goes_downwards() -> None:
    order = [*rules.MAY_IMPORT]
    for room, others in rules.MAY_IMPORT.items():
        assert all(order.index(other) < order.index(room) for other in others), room


@pytest.mark.parametrize("room", rules.MAY_IMPORT)
def test_no_circle_within_a_room(room: str) -> None:
    paths = {rules.module_name(p): p for p in rules.list_python(f"ramos/{room}")}
    graph = {name: {n for n in list_imports(path) if n in paths} for name, path in paths.items()}
    # A package holds what starts it; its modules may ask it for that.
    graph.pop(f"ramos.{room}", None)
    graphlib.TopologicalSorter(graph).prepare()


def test_the_ground_stands_on_itself() -> None:
    paths = {f"ramos.{name}": rules.REPOSITORY / f"ramos/{name}.py" for name in rules.GROUND}
    graph = {name: set(list_imports(path)) & set(paths) for name, path in paths.items()}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", rules.list_python("ramos/linux"), ids=rules.module_name)
def test_linux_knows_nothing_of_ramos(path: Path) -> None:
    named = {name for name in list_imports(path) if name.startswith("ramos")}
    own = {"ramos.errors", "ramos.progress", "ramos.sizes"}
    own |= {name for name in named if name.startswith("ramos.linux.")}
    assert named <= own, "a place or a setting of RAMOS comes as an argument"


@pytest.mark.parametrize("path", MODULES, ids=rules.module_name)
def test_only_linux_calls_the_kernel(path: Path) -> None:
    if rules.find_room(rules.module_name(path)) == "linux":
        return
    assert not {"subprocess", "ctypes"} & set(list_imports(path))
    forks = [
        node.lineno
        for node in ast.walk(rules.parse_python(path))
        if isinstance(node, ast.Attribute)
        and node.attr == "fork"
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    assert not forks


@pytest.mark.parametrize("path", MODULES, ids=rules.module_name)
def test_only_the_command_line_prints(path: Path) -> None:
    if rules.find_room(rules.module_name(path)) == "cli":
        return
    assert "click" not in set(list_imports(path))
    calls = [n for n in ast.walk(rules.parse_python(path)) if isinstance(n, ast.Call)]
    assert not [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


def test_hacking_shows_the_table() -> None:
    text = HACKING.read_text(encoding="utf-8")
    for room, others in rules.MAY_IMPORT.items():
        row = next((line for line in text.splitlines() if line.startswith(f"| `{room}/` |")), "")
        assert row, f"HACKING.md has no line for {room}/"
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        said = set() if cells[2] == "–" else set(cells[2].split(", "))
        assert said == set(others), room


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


# One word a concept: what two formats have alike, and nothing else, may share a name.
SHARED_CLASSES = frozenset(("Package",))


def test_no_two_classes_share_a_name() -> None:
    nodes = (node for path in MODULES for node in rules.parse_python(path).body)
    names = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == SHARED_CLASSES


# As everybody calls them.
USUAL_ALIASES = frozenset((("tomli", "tomllib"), ("strategies", "st")))


@pytest.mark.parametrize(
    "path", rules.list_python("ramos", "tests", "bench"), ids=lambda path: path.stem
)
def test_what_is_imported_keeps_its_name(path: Path) -> None:
    nodes = (n for n in ast.walk(rules.parse_python(path)) if isinstance(n, IMPORTS))
    renamed = {(a.name, a.asname) for node in nodes for a in node.names if a.asname}
    assert renamed <= USUAL_ALIASES, "call it by its name, or import what you need of it"
