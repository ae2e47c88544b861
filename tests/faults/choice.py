"""Which faults are planted: a seed chooses lines of all that is shipped, and one fault a line.

Owns: the folders, the draw, and the list of equivalent faults (`equivalent.txt`): those that
change nothing anybody could see, each with its reason. Invariant: a seed draws the same, as far as
the lines are still there.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults import lines, python
from tests.faults.fault import Fault

FOLDERS = ("ramos", "initramfs-hooks", "grub", "apk-triggers", "services")
EQUIVALENT = Path(__file__).with_name("equivalent.txt")
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Drawn:
    """A fault, and why nothing could see it (empty: something must)."""

    fault: Fault
    reason: str


def list_files(tree: Path) -> list[str]:
    """The files that faults go into."""
    files = [path for folder in FOLDERS for path in (tree / folder).rglob("*") if path.is_file()]
    named = [path for path in files if path.suffix not in (".pyc", ".packages", ".env")]
    return sorted(str(path.relative_to(tree)) for path in named)


def list_faults(tree: Path, files: Iterable[str]) -> list[Fault]:
    """All faults there are for these files."""
    found = []
    for file in files:
        list_those = python.list_faults if file.endswith(".py") else lines.list_faults
        found += list_those(file, (tree / file).read_bytes())
    return found


def is_parsed(fault: Fault, tree: Path) -> bool:
    """Whether the file with the fault is still a program."""
    text = fault.apply((tree / fault.file).read_bytes())
    return python.parses(text) if fault.file.endswith(".py") else lines.parses(fault.file, text)


def read_equivalents(path: Path = EQUIVALENT) -> dict[Key, str]:
    """The named ones: `file | operator | line`, and below it, indented, the reason."""
    reasons: dict[Key, str] = {}
    key: Key | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" ") and key is not None:
            reasons[key] = f"{reasons[key]} {line.strip()}".strip()
        else:
            file, operator, text = line.split(" | ", 2)
            key = (file, operator, text.strip())
            reasons[key] = ""
    return reasons


def rank(seed: int, *words: object) -> bytes:
    """A place in the order of a seed, which what stands around has no part in."""
    return hashlib.sha256(repr((seed, words)).encode()).digest()


def draw(faults: list[Fault], seed: int, tree: Path, known: dict[Key, str]) -> Iterator[Drawn]:
    """Each line that can hold a fault counts the same; so do the faults of a line."""
    by_line: dict[tuple[str, int], list[Fault]] = {}
    for fault in faults:
        by_line.setdefault((fault.file, fault.number), []).append(fault)
    alike: Counter[tuple[str, str]] = Counter()
    ranks: dict[tuple[str, int], bytes] = {}
    for place in sorted(by_line):
        text = (place[0], by_line[place][0].line)
        alike[text] += 1
        ranks[place] = rank(seed, *text, alike[text])
    for place in sorted(by_line, key=lambda place: ranks[place]):
        there = sorted(by_line[place], key=lambda f: rank(seed, f.operator, f.text.decode()))
        for fault in (one for one in there if is_parsed(one, tree)):
            yield Drawn(fault, known.get(fault.key, ""))
            break
