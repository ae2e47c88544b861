"""What each test runs, how long it takes, and whether it passes, in a tree without a fault.

Owns: the runs that find it out, one for each test file, and a cache of what they found. What a test
runs is the functions of ours that it comes to, in any process (`tracer`, `plugin`). Invariant: what
is cached holds as long as the test, all that it imports and all sh stay as they are; a test that
failed, or that is about all there is, is run again.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tests.faults import choice, reach
from tests.faults.fault import write_dated
from tests.faults.notes import Note, Notes, parse_log
from tests.faults.trees import Tree

LOG = ".ran"
TRACER = Path(__file__).with_name("tracer.py")
PATIENCE_SECONDS = 3600.0


@contextmanager
def traced(tree: Path, checkout: Path) -> Iterator[None]:
    """All that runs RAMOS in a copy notes what it runs."""
    path = tree / "ramos" / "__init__.py"
    source = path.read_bytes()
    tracer = TRACER.read_text(encoding="utf-8")
    tracer = tracer.replace('"where the notes go"', repr(str(checkout / LOG)))
    write_dated(path, source + b"\n\n" + tracer.encode())
    try:
        yield
    finally:
        write_dated(path, source)


def measure(tree: Tree, test: str, checkout: Path) -> Notes:
    """Run one test file without a fault, or remember it."""
    cached = checkout / ".cache" / "faults" / f"{digest(tree.root, test)}.json"
    if cached.is_file():  # never for lint, which looks at all there is
        text = json.loads(cached.read_text(encoding="utf-8"))
        return {name: Note(**{**note, "ran": set(note["ran"])}) for name, note in text.items()}
    log = tree.root / LOG
    log.write_bytes(b"")
    options = ("-p", "tests.faults.plugin")
    with traced(tree.root, checkout):
        outcome, told = tree.run([test], checkout, PATIENCE_SECONDS, options)
    notes = parse_log(log.read_text(encoding="utf-8", errors="replace").splitlines())
    broken = [note for note in notes.values() if note.broken]
    if outcome == "passed" and not test.startswith("tests/lint/"):
        cached.parent.mkdir(parents=True, exist_ok=True)
        rows = {name: {**asdict(note), "ran": sorted(note.ran)} for name, note in notes.items()}
        cached.write_text(json.dumps(rows), encoding="utf-8")
    for note in broken or ([] if outcome == "passed" else [*notes.values()]):
        note.broken = told
    return notes or {test: Note(broken=told)}


def digest(tree: Path, test: str) -> str:
    """The name of a test, of all that it imports, and of what is no Python, as it is now."""
    shipped = {file for file in choice.list_files(tree) if not file.endswith(".py")}
    found = hashlib.sha256(TRACER.read_bytes())
    for file in sorted(reach.find_closure(tree, test) | shipped):
        found.update(f"{file}\n".encode() + hashlib.sha256((tree / file).read_bytes()).digest())
    return found.hexdigest()[:32]
