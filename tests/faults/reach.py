"""Which tests can see a fault, and in which order they are asked.

Owns: the map from faults to tests. A test reaches what it imports, what its helpers import, and
whatever file one of these names. Of those that reach a module of Python, the ones are asked that
come to the function with the fault (see `record`).
"""

import ast
import functools
import re
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.notes import Note, Notes, Stage

FAST = ("unit", "sh")
# The tests of this tool plant faults themselves.
OWN = ("tests/unit/test_planted.py", "tests/root/test_planted.py")
COMMAND = re.compile(r"""["']-m["'], ["']ramos["']|-m ramos\b|\bbin/ramos\b|build-image\.sh""")


@dataclass(frozen=True)
class Reach:
    """The imports and texts of a tree, and what was measured of its tests."""

    tree: Path
    tiers: tuple[str, ...]
    notes: dict[str, Notes] = field(default_factory=dict)

    def list_tests(self, *tiers: str) -> list[str]:
        """The test files of the tiers that are asked for."""
        asked = [self.tree / "tests" / tier for tier in tiers if tier in self.tiers]
        found = [str(p.relative_to(self.tree)) for top in asked for p in top.rglob("test_*.py")]
        return sorted(file for file in found if file not in OWN)

    def list_candidates(self, faults: list[Fault]) -> list[str]:
        """The test files that have anything to do with any of the faults."""
        files = {fault.file: fault for fault in faults}.values()
        rest = self.list_tests(*FAST, "root")
        return self.list_tests("lint") + [t for t in rest if any(self.reaches(t, f) for f in files)]

    def select(self, fault: Fault) -> list[Stage]:
        """Stages of tests, the likeliest and cheapest first."""
        fast, slow = self.list_tests(*FAST), self.list_tests("root")
        near = [test for test in (*fast, *slow) if self.is_near(test, fault)]
        stages = [
            [test for test in fast if test in near],
            self.list_tests("lint"),
            [test for test in fast if test not in near],
            [test for test in slow if test in near],
            [test for test in slow if test not in near],
        ]
        return [asked for stage in stages if (asked := self.list_asked(stage, fault))]

    def list_asked(self, files: list[str], fault: Fault) -> Stage:
        """The tests of these files that come to the fault, the quickest file first."""
        found: list[Stage] = []
        for file in files:
            notes = self.notes.get(file, {})
            asked = {n: note.seconds for n, note in notes.items() if self.runs(file, note, fault)}
            whole = asked and len(asked) == len(notes)
            found.append({file: sum(asked.values())} if whole else asked)
        found.sort(key=lambda stage: sum(stage.values()))
        return {name: seconds for stage in found for name, seconds in stage.items()}

    def runs(self, test: str, note: Note, fault: Fault) -> bool:
        """Whether a test comes to the line, as far as can be known."""
        if note.broken:
            return False
        if not fault.file.endswith(".py") or test.startswith("tests/lint/"):
            return test.startswith("tests/lint/") or self.reaches(test, fault)
        if fault.function:
            return f"{fault.file} {fault.function}" in note.ran
        return self.is_near(test, fault) or any(r.startswith(f"{fault.file} ") for r in note.ran)

    def is_near(self, test: str, fault: Fault) -> bool:
        """Whether a test itself names the function, the module or the file."""
        text = read_text(self.tree / test)
        if fault.file.endswith(".py") and fault.file in list_imports(self.tree, test):
            return True
        if Path(fault.file).name in text:
            return True
        named = fault.function and re.search(rf"\b{re.escape(fault.function)}\b", text)
        return bool(named) and self.reaches(test, fault)

    def reaches(self, test: str, fault: Fault) -> bool:
        """Whether a test, its helpers, or what they import have to do with a file at all."""
        closure = find_closure(self.tree, test)
        if fault.file.endswith(".py"):
            return fault.file in closure
        path = Path(fault.file)
        words = {path.name, *(part for part in path.parts[:-1] if "-" in part), path.parts[0] + "/"}
        quoted = re.compile(
            "|".join(rf"{re.escape(w)}|[\"']{re.escape(w[:-1])}[\"']" for w in words)
        )
        return any(quoted.search(read_text(self.tree / file)) for file in closure)


@functools.cache
def read_text(path: Path) -> str:
    """The text of a file as it was at the first look."""
    return path.read_text(encoding="utf-8")


def find_module(tree: Path, name: str) -> str | None:
    """The file of a module of ours."""
    base = tree.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return str(path.relative_to(tree))
    return None


@functools.cache
def list_imports(tree: Path, file: str) -> frozenset[str]:
    """The files of ours that a file imports, or runs as a command."""
    text = read_text(tree / file)
    names = ["ramos.__main__"] if COMMAND.search(text) else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    names = [name for name in names if name.split(".")[0] in ("ramos", "tests")]
    return frozenset(found for name in names if (found := find_module(tree, name)))


@functools.cache
def find_closure(tree: Path, file: str) -> frozenset[str]:
    """A file, and all of ours that it imports, however far away."""
    seen: set[str] = set()
    left = [file, *(str(folder / "conftest.py") for folder in Path(file).parents)]
    while left:
        here = left.pop()
        if here not in seen and (tree / here).is_file():
            seen.add(here)
            left += list_imports(tree, here)
    return frozenset(seen)
