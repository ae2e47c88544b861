"""The faults that are planted: each operator, the draw, and which tests are asked."""

from pathlib import Path

import pytest

from tests.faults import choice, lines, notes, python, reach, trees
from tests.faults.fault import Fault, planted

PYTHON = '''"""Owns: a toy."""
import os


def keep(path: str, wide: bool) -> bool:
    """Keep it."""
    with lock(path):
        if wide and path != "/":
            os.fsync(3)
        try:
            return os.path.exists(path)
        except OSError as error:
            raise ValueError(path) from error
    os.open(path, os.O_RDONLY | os.O_NOFOLLOW, 0o600)
'''
SHELL = """#!/bin/sh
# a comment
check_it() {
    local name
    [ -n "$1" ] || return 1
    if grep -q x "$1"; then
        sync
    fi
    cat <<END
    sync
END
}
"""


def change(faults: list[Fault], source: str) -> set[tuple[str, str]]:
    """Operator and the new line of each fault."""
    changed = set()
    for fault in faults:
        text = fault.apply(source.encode()).decode()
        line = text.split("\n")[fault.number - 1]
        changed.add((fault.operator, line.strip()))
    return changed


@pytest.mark.parametrize(
    "expected",
    [
        ("negate", 'if (not (wide and path != "/")):'),
        ("drop", "pass"),
        ("unhold", 'with __import__("contextlib").nullcontext():'),
        ("compare", 'if wide and path == "/":'),
        ("arm", "if ((wide)):"),
        ("arm", 'if ((path != "/")):'),
        ("arm", "os.open(path, os.O_RDONLY | 0, 0o600)"),
        ("constant", "os.open(path, os.O_RDONLY | os.O_NOFOLLOW, 0o777)"),
        ("constant", "os.fsync(4)"),
        ("return", "return not (os.path.exists(path))"),
        ("swallow", "pass"),
    ],
)
def test_python_is_changed(expected: tuple[str, str]) -> None:
    found = python.list_faults("toy.py", PYTHON.encode())
    assert expected in change(found, PYTHON)
    assert all(python.parses(fault.apply(PYTHON.encode())) for fault in found)
    assert {fault.function for fault in found} == {"keep"}


@pytest.mark.parametrize(
    "expected",
    [
        ("compare", '[ -z "$1" ] || return 1'),
        ("join", '[ -n "$1" ] && return 1'),
        ("return", '[ -n "$1" ] || return 0'),
        ("drop", '[ -n "$1" ] || :'),
        ("negate", 'if ! grep -q x "$1"; then'),
        ("drop", ":"),
    ],
)
def test_sh_is_changed(expected: tuple[str, str]) -> None:
    assert expected in change(lines.list_faults("toy.sh", SHELL.encode()), SHELL)


def test_a_promise_to_readers_is_not_broken() -> None:
    source = "@dataclass(frozen=True)\nclass Toy:\n    size: int = 3\n"
    (fault,) = python.list_faults("toy.py", source.encode())
    assert fault.text == b"4"


def test_comments_and_documents_stay() -> None:
    numbers = {fault.number for fault in lines.list_faults("toy.sh", SHELL.encode())}
    assert numbers == {5, 6, 7, 9}


def test_grub_and_settings_are_changed() -> None:
    grub = lines.list_faults("toy.cfg", b"set default=ramos\n")
    assert [fault.text for fault in grub] == [b"true"]
    unit = lines.list_faults("toy.service", b"[Service]\nType=oneshot\n")
    assert change(unit, "[Service]\nType=oneshot\n") == {("drop", "")}


def test_what_no_reader_takes_is_not_planted() -> None:
    assert not lines.parses("toy.sh", b"if true; then\n")
    assert not lines.parses("toy.cfg", b"if true; then\n")
    assert not python.parses(b"if True:\n")


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    for file, text in {
        "ramos/keeping.py": PYTHON,
        "ramos/far.py": "from ramos import keeping\n",
        "initramfs-hooks/check.sh": SHELL,
        "tests/unit/store/test_keeping.py": "from ramos.keeping import keep\n",
        "tests/unit/store/test_far.py": "import ramos.far\n",
        "tests/unit/test_other.py": "import os\n",
        "tests/sh/boot/test_check.py": 'HOOKS = "initramfs-hooks"\n',
        "tests/lint/test_all.py": "",
        "tests/root/cli/test_run.py": "",
        "tests/root/conftest.py": 'ARGV = ["python3", "-m", "ramos"]\n',
        "ramos/__main__.py": "from ramos import keeping\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_seed_draws_the_same_from_all_folders(toy: Path) -> None:
    faults = choice.list_faults(toy, choice.list_files(toy))
    first = list(choice.draw(faults, 1, toy, {}))
    assert first == list(choice.draw(faults, 1, toy, {}))
    assert first != list(choice.draw(faults, 2, toy, {}))
    check = toy / "initramfs-hooks/check.sh"
    check.write_text(f"# one line more\n{check.read_text()}")
    later = choice.draw(choice.list_faults(toy, choice.list_files(toy)), 1, toy, {})
    assert [drawn.fault.key for drawn in later] == [drawn.fault.key for drawn in first]
    assert {drawn.fault.file for drawn in first} == {"ramos/keeping.py", "initramfs-hooks/check.sh"}
    places = [(drawn.fault.file, drawn.fault.number) for drawn in first]
    assert len(places) == len(set(places))


def test_a_named_fault_comes_with_its_reason(toy: Path) -> None:
    named = toy / "equivalent.txt"
    named.write_text("# a list\nramos/keeping.py | drop | os.fsync(3)\n    a toy\n    is no disk\n")
    known = choice.read_equivalents(named)
    assert known == {("ramos/keeping.py", "drop", "os.fsync(3)"): "a toy is no disk"}
    faults = [f for f in choice.list_faults(toy, ["ramos/keeping.py"]) if f.key in known]
    assert [drawn.reason for drawn in choice.draw(faults, 1, toy, known)] == ["a toy is no disk"]


def test_every_equivalent_fault_is_one_that_could_be_planted(repository: Path) -> None:
    known = choice.read_equivalents()
    there = {f.key for f in choice.list_faults(repository, sorted({key[0] for key in known}))}
    assert set(known) <= there
    assert all(known.values())


LOG = """~
ramos/keeping.py prepare
.
= tests/unit/store/test_far.py::test_that
ramos/keeping.py keep
! passed 0.500 tests/unit/store/test_far.py::test_that
= tests/unit/store/test_far.py::test_other
! passed 0.250 tests/unit/store/test_far.py::test_other
= tests/unit/store/test_far.py::test_bad
ramos/keeping.py keep
! failed 0.125 tests/unit/store/test_far.py::test_bad
! passed 0.125 tests/unit/store/test_far.py::test_bad
"""


def test_what_a_test_runs_is_read_from_the_log() -> None:
    read = notes.parse_log(LOG.splitlines())
    that, other, bad = (read[f"tests/unit/store/test_far.py::test_{n}"] for n in WORDS)
    assert that == notes.Note(0.5, "", {"ramos/keeping.py prepare", "ramos/keeping.py keep"})
    assert other == notes.Note(0.25, "", {"ramos/keeping.py prepare"})
    assert (bad.seconds, bad.broken) == (0.25, "failed")


WORDS = ("that", "other", "bad")


def ask(toy: Path, *tiers: str) -> reach.Reach:
    keeps = {"ramos/keeping.py keep"}
    known = {
        "tests/unit/store/test_keeping.py": {
            "test_keeping.py::test_it": notes.Note(2.0, "", keeps)
        },
        "tests/lint/test_all.py": {"test_all.py::test_all": notes.Note(1.0)},
        "tests/unit/store/test_far.py": notes.parse_log(LOG.splitlines()),
        "tests/sh/boot/test_check.py": {"test_check.py::test_check": notes.Note(3.0)},
        "tests/root/cli/test_run.py": {"test_run.py::test_run": notes.Note(9.0, "", keeps)},
    }
    return reach.Reach(toy, tiers, known)


def test_the_nearest_tests_are_asked_first(toy: Path) -> None:
    asked = ask(toy, "lint", "unit", "sh", "root")
    (fault, *_) = choice.list_faults(toy, ["ramos/keeping.py"])
    assert asked.list_candidates([fault]) == [
        "tests/lint/test_all.py",
        "tests/root/cli/test_run.py",
        "tests/unit/store/test_far.py",
        "tests/unit/store/test_keeping.py",
    ]
    assert asked.select(fault) == [
        {"tests/unit/store/test_keeping.py": 2.0},
        {"tests/lint/test_all.py": 1.0},
        {"tests/unit/store/test_far.py::test_that": 0.5},
        {"tests/root/cli/test_run.py": 9.0},
    ]
    assert ask(toy, "sh").select(fault) == []
    (fault, *_) = choice.list_faults(toy, ["initramfs-hooks/check.sh"])
    assert {"tests/sh/boot/test_check.py": 3.0} in asked.select(fault)


def test_every_test_file_is_in_a_tier(repository: Path) -> None:
    found = reach.Reach(repository, ("lint", "unit", "sh", "root")).list_tests("unit", "root")
    assert "tests/unit/linux/test_verity.py" in found
    assert "tests/root/save/test_commit.py" in found
    assert not set(reach.OWN) & set(found)


def test_what_was_planted_is_taken_out_again(toy: Path) -> None:
    (fault, *_) = choice.list_faults(toy, ["ramos/keeping.py"])
    before = (toy / fault.file).stat()
    with planted(fault, toy):
        assert (toy / fault.file).read_bytes() == fault.apply(PYTHON.encode())
        during = (toy / fault.file).stat()
    after = (toy / fault.file).stat()
    assert (toy / fault.file).read_text(encoding="utf-8") == PYTHON
    assert int(during.st_mtime) not in (int(before.st_mtime), int(after.st_mtime))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(0, "passed"), (1, "failed"), *((n, "unknown") for n in (2, 3, 4, 5, 137, 139, -9))],
)
def test_only_a_failed_test_counts_against_a_fault(status: int, outcome: str) -> None:
    assert trees.name_outcome(status) == outcome
