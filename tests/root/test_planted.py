"""A fault that a test finds is killed, another survives, and nothing outside the copy changes."""

import shutil
import subprocess
from pathlib import Path
from unittest.mock import ANY

import pytest

from tests.faults import choice, trees
from tests.faults.fault import Fault
from tests.faults.reach import Reach
from tests.faults.record import measure

TOY = """def double(number: int) -> int:
    if number == 7:
        raise ValueError(number)
    while number > 100:
        number -= 100
    return number + number
"""
TEST = """import os
import pathlib
import subprocess

import ramos
from ramos.toy import double


def test_double():
    assert double(3) == 6
    assert double(101) == 2


def test_the_machine_is_out_of_reach():
    disks = [path for path in pathlib.Path("/sys/class/block").iterdir()]
    disks = [path.name for path in disks if not path.name.startswith(("loop", "ram", "zram"))]
    assert not any(pathlib.Path("/dev", name).is_block_device() for name in disks)
    for enter in ([], ["nsenter", "--mount=/proc/self/ns/mnt", f"--wd={os.getcwd()}"]):
        assert subprocess.run([*enter, "touch", "/usr/ramos-was-here"], check=False).returncode != 0
        assert subprocess.run([*enter, "test", "-e", f"{ramos.__path__[0]}/faulty"]).returncode == 0
    assert len([path for path in pathlib.Path("/proc").iterdir() if path.name.isdigit()]) < 10
    pathlib.Path("litter").touch()
    pathlib.Path("/var/tmp/litter").touch()
"""
PROGRAM = """import os
import signal
import subprocess
import sys


def test_it():
    program = "import os, ramos.toy; ramos.toy.double(1); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program], check=False)


def test_other():
    import ramos.toy
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    place = tmp_path / "checkout"
    for file, text in {
        "ramos/__init__.py": "",
        "ramos/toy.py": TOY,
        "tests/__init__.py": "",
        "tests/unit/__init__.py": "",
        "tests/unit/toys/__init__.py": "",
        "tests/unit/toys/test_toy.py": TEST,
    }.items():
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(text, encoding="utf-8")
    shutil.copytree(trees.REPOSITORY / "tests/faults", place / "tests/faults")
    return place


def list_content(place: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in place.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def judge(checkout: Path, home: Path, faults: list[Fault]) -> dict[str, trees.Verdict]:
    tree = trees.Tree.make(home / "faulty", checkout)
    (tree.root / "ramos" / "faulty").touch()
    reach = Reach(tree.root, ("unit",))
    for test in reach.list_candidates(faults):
        reach.notes[test] = measure(tree, test, checkout)
    assert not any(note.broken for notes in reach.notes.values() for note in notes.values())
    verdicts = [trees.judge(tree, fault, reach.select(fault), checkout) for fault in faults]
    return {f"{verdict.fault.operator} {verdict.fault.line}": verdict for verdict in verdicts}


def test_found_and_not_found(checkout: Path, tmp_path: Path) -> None:
    before = list_content(checkout)
    faults = choice.list_faults(checkout, ["ramos/toy.py"])
    wanted = {"negate if number == 7:": True, "drop raise ValueError(number)": False}
    named = [fault for fault in faults if f"{fault.operator} {fault.line}" in wanted]
    verdicts = judge(checkout, tmp_path, named)
    assert {name: verdict.killed for name, verdict in verdicts.items()} == wanted
    assert "test_double" in verdicts["negate if number == 7:"].told
    assert list_content(checkout) == before
    assert not Path("/var/tmp/litter").exists()


def test_an_endless_loop_is_killed(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "SLACK_SECONDS", 1.0)
    faults = choice.list_faults(checkout, ["ramos/toy.py"])
    endless = [fault for fault in faults if (fault.operator, fault.line[:6]) == ("drop", "number")]
    (verdict,) = judge(checkout, tmp_path, endless).values()
    assert verdict.killed
    assert verdict.told.startswith("no end after")
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False)
    assert left.returncode == 1


def test_a_test_that_fails_anyway_proves_nothing(checkout: Path, tmp_path: Path) -> None:
    test = "tests/unit/toys/test_toy.py"
    (checkout / test).write_text(f"{TEST}\n\ndef test_it():\n    assert False\n")
    tree = trees.Tree.make(tmp_path / "clean", checkout)
    reach = Reach(tree.root, ("unit",), {test: measure(tree, test, checkout)})
    assert reach.notes[test][f"{test}::test_it"].broken
    (fault, *_) = choice.list_faults(checkout, ["ramos/toy.py"])
    assert reach.select(fault) == [{f"{test}::test_double": ANY}]


def test_a_test_that_has_begun_to_fail_kills_nothing(checkout: Path, tmp_path: Path) -> None:
    """Measured while it passed, it fails from its second run on, whatever is planted."""
    test, left = "tests/unit/toys/test_toy.py", "ramos/left"
    body = f"    assert not os.path.exists({left!r})\n    pathlib.Path({left!r}).touch()\n"
    (checkout / test).write_text(f"{TEST}\n\ndef test_it():\n    double(3)\n{body}")
    fault = next(f for f in choice.list_faults(checkout, ["ramos/toy.py"]) if f.operator == "drop")
    (verdict,) = judge(checkout, tmp_path, [fault]).values()
    assert (verdict.killed, verdict.known) == (False, False)
    assert "test_it" in verdict.told


def test_what_a_program_of_the_test_runs_is_known(checkout: Path, tmp_path: Path) -> None:
    test = "tests/unit/toys/test_toy.py"
    (checkout / test).write_text(PROGRAM)
    tree = trees.Tree.make(tmp_path / "clean", checkout)
    before = list_content(tree.root / "ramos")
    notes = measure(tree, test, checkout)
    assert notes[f"{test}::test_it"].ran >= {"ramos/toy.py <module>", "ramos/toy.py double"}
    assert "ramos/toy.py double" not in notes[f"{test}::test_other"].ran
    assert {name: data for name, (data, _) in list_content(tree.root / "ramos").items()} == {
        name: data for name, (data, _) in before.items()
    }
    assert measure(tree, test, checkout) == notes  # as it was kept: the seconds are the same
