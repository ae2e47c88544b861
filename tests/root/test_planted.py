"""A fault that a test finds is killed, another survives, and nothing outside the copy changes."""

import subprocess
from pathlib import Path

import pytest

from tests.faults import choice, trees
from tests.faults.fault import Fault
from tests.faults.reach import Reach

TOY = """def double(number: int) -> int:
    if number == 7:
        raise ValueError(number)
    while number > 100:
        number -= 100
    return number + number
"""
TEST = """import pathlib
import subprocess

from ramos.toy import double


def test_double():
    assert double(3) == 6
    assert double(101) == 2


def test_the_machine_is_out_of_reach():
    disks = [path for path in pathlib.Path("/sys/class/block").iterdir()]
    disks = [path.name for path in disks if not path.name.startswith(("loop", "ram", "zram"))]
    assert not any(pathlib.Path("/dev", name).is_block_device() for name in disks)
    assert subprocess.run(["touch", "/usr/ramos-was-here"], check=False).returncode != 0
    assert len([path for path in pathlib.Path("/proc").iterdir() if path.name.isdigit()]) < 10
    pathlib.Path("litter").touch()
    pathlib.Path("/var/tmp/litter").touch()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    place = tmp_path / "checkout"
    for file, text in {
        "ramos/__init__.py": "",
        "ramos/toy.py": TOY,
        "tests/__init__.py": "",
        "tests/unit/__init__.py": "",
        "tests/unit/test_toy.py": TEST,
    }.items():
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(text, encoding="utf-8")
    return place


def list_content(place: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in place.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def judge(checkout: Path, home: Path, faults: list[Fault]) -> dict[str, trees.Verdict]:
    clean, tree = (trees.Tree.make(home / name, checkout) for name in ("clean", "faulty"))
    baseline = trees.Baseline(checkout, clean)
    reach = Reach(clean.root, ("unit",))
    verdicts = [trees.judge(tree, fault, reach.select(fault), baseline) for fault in faults]
    assert not baseline.broken
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
    (checkout / "tests/unit/test_toy.py").write_text("def test_it():\n    assert False\n")
    clean = trees.Tree.make(tmp_path / "clean", checkout)
    baseline = trees.Baseline(checkout, clean)
    baseline.measure("tests/unit/test_toy.py")
    assert "test_it" in baseline.broken["tests/unit/test_toy.py"]
    (fault, *_) = choice.list_faults(checkout, ["ramos/toy.py"])
    verdict = trees.judge(clean, fault, [["tests/unit/test_toy.py"]], baseline)
    assert not verdict.killed
