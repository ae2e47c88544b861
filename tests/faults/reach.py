"""Which tests can see a fault, and in which order they are asked.

Owns: the map from files to tests, made from imports and from names in the text. A test reaches what
it imports, what its helpers import, and whatever file one of these names.
"""

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

from tests.faults.fault import Fault

FAST = ("unit", "sh")
COMMAND = re.compile(r"""["']-m["'], ["']ramos["']|-m ramos\b""")


@dataclass(frozen=True)
class Reach:
    """The imports and texts of a tree."""

    tree: Path
    tiers: tuple[str, ...]

    def list_tests(self, *tiers: str) -> list[str]:
        """The test files of the tiers that are asked for."""
        found = [p for tier in tiers for p in (self.tree / "tests" / tier).glob("test_*.py")]
        asked = [p for p in found if p.parent.name in self.tiers]
        return sorted(str(p.relative_to(self.tree)) for p in asked)

    def select(self, fault: Fault) -> list[list[str]]:
        """Stages of test files, the cheapest and likeliest first."""
        fast, slow = self.list_tests(*FAST), self.list_tests("root")
        near = [test for test in fast if self.is_near(test, fault)]
        far = [test for test in fast if test not in near and self.reaches(test, fault)]
        near_slow = [test for test in slow if self.is_near(test, fault)]
        far_slow = [test for test in slow if test not in near_slow and self.reaches(test, fault)]
        stages = [near, self.list_tests("lint"), far, near_slow, far_slow]
        return [stage for stage in stages if stage]

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
    left = [file, str(Path(file).with_name("conftest.py"))]
    while left:
        here = left.pop()
        if here not in seen and (tree / here).is_file():
            seen.add(here)
            left += list_imports(tree, here)
    return frozenset(seen)
