"""Whatever goes wrong in a save, the default stays, nothing is left behind, and the next one works.

Each group runs in a process of its own under the shim (see tests/crash/faults.py).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ramos.save.commit import CRASH_POINTS
from tests.crash.faults import EVERY_VARIABLE, KILLS
from tests.crash.sticks import FLIPS, LIES

# Every second call here; `python3 -m tests.crash.faults calls` fails each of them.
EVERY = "2"


def run_group(repository: Path, name: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.crash.faults", name, "--json"]
    environment = {**os.environ, EVERY_VARIABLE: EVERY}
    done = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    cases: list[dict[str, Any]] = json.loads(done.stdout)[name]
    bad = [
        f"{case['name']}: {case['ended']}: {case['problem']}" for case in cases if case["problem"]
    ]
    assert not bad, "\n".join(bad)
    assert done.returncode == 0
    return cases


def count_ended(cases: list[dict[str, Any]], word: str) -> int:
    return sum(case["ended"] == word for case in cases)


def test_killed_at_every_named_step(repository: Path) -> None:
    cases = run_group(repository, "points")
    assert count_ended(cases, "killed") == len(cases) >= 2 * len(CRASH_POINTS) - 1


def test_killed_at_random_times(repository: Path) -> None:
    cases = run_group(repository, "times")
    assert len(cases) == KILLS
    assert count_ended(cases, "killed") > KILLS * 0.6


def test_an_error_at_every_call(repository: Path) -> None:
    cases = run_group(repository, "calls")
    assert len(cases) > 60
    assert count_ended(cases, "saved") < len(cases) / 4
    refused = [case["ended"] for case in cases if case["ended"] != "saved"]
    assert all("Input/output" in text or "No space" in text for text in refused)


@pytest.mark.parametrize("group", ["full", "readonly", "lies"])
def test_a_stick_that_cannot_be_written(repository: Path, group: str) -> None:
    cases = run_group(repository, group)
    assert count_ended(cases, "saved") == 0
    assert len(cases) >= {"full": 8, "readonly": 1, "lies": len(LIES)}[group]


def test_a_stick_that_fails_or_is_pulled(repository: Path) -> None:
    cases = run_group(repository, "stick")
    assert len(cases) > 20
    assert count_ended(cases, "saved") <= 2


def test_flipped_bits(repository: Path) -> None:
    cases = run_group(repository, "bits")
    assert len(cases) == FLIPS
    kinds = {case["name"].split()[0] for case in cases}
    assert kinds == {"generation", "layer", "acl", "rootfs"}
