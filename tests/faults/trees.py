"""Copies of the tree, and tests that run in them.

Owns: the copies and the processes; each test run is in namespaces of its own (`inside.sh`), and
ends with its time. Invariant: the checkout is read, never written.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import fault as one

REPOSITORY = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).with_name("inside.sh")
LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", ".git", ".venv", ".cache", ".hypothesis", "*.img", "*.qcow2", "*.egg-info"
)
# A fault is not found by the look of its text.
NOT_ASKED = ("test_ruff", "test_format")
SLACK_SECONDS = 60.0
SLOWER = 6.0
# The tests of this tool plant faults themselves.
OWN = ("tests/unit/test_planted.py", "tests/root/test_planted.py")


# What pytest says itself; a signal, no memory or a wrong call says nothing about the fault.
OUTCOMES = {0: "passed", 1: "failed"}


def name_outcome(status: int) -> str:
    """What the exit status of the tests says."""
    return OUTCOMES.get(status, "unknown")


@dataclass
class Tree:
    """One copy, used by one thread."""

    place: Path
    running: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls, home: Path, checkout: Path) -> "Tree":
        """Copy the checkout."""
        shutil.copytree(checkout, home / "tree", ignore=LEFT_OUT, symlinks=True)
        if (checkout / ".venv").exists():
            (home / "tree" / ".venv").symlink_to((checkout / ".venv").resolve())
        (home / "tmp").mkdir()
        return cls(home)

    @property
    def root(self) -> Path:
        """Where the files are."""
        return self.place / "tree"

    def run(self, tests: list[str], checkout: Path, seconds: float) -> tuple[str, str]:
        """`passed`, `failed`, `timeout` or `unknown`, and the last line that says so."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        for name in NOT_ASKED:
            command += [f"--deselect=tests/lint/test_linters.py::{name}"]
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        inside = ["sh", str(INSIDE), str(self.root), str(checkout), str(self.place / "tmp")]
        log = self.place / "log"
        with log.open("wb") as output:
            self.running = subprocess.Popen(
                [*spaces, *inside, *command, *tests],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            status = self.wait(seconds)
        for left in (self.place / "tmp").iterdir():
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
        text = log.read_text(encoding="utf-8", errors="replace")
        if status is None:
            return "timeout", f"no end after {seconds:.0f} s"
        if status == 97:
            raise OSError(f"no namespaces for the tests: {text.strip()}")
        failures = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
        told = failures[0] if failures else (text.strip().splitlines() or [""])[-1]
        return name_outcome(status), told

    def wait(self, seconds: float) -> int | None:
        """The exit status; none where the time ran out."""
        assert self.running is not None
        try:
            return self.running.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.stop()

    def stop(self) -> None:
        """End what runs: with the first process of its namespace all others go."""
        if self.running is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()


@dataclass
class Baseline:
    """How long each test file takes without a fault; one that fails then proves nothing."""

    checkout: Path
    clean: Tree
    seconds: dict[str, float] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def measure(self, test: str) -> float:
        """Run it once without a fault, when it is first asked for."""
        with self.lock:
            if test not in self.seconds:
                start = time.monotonic()
                outcome, told = self.clean.run([test], self.checkout, 3600.0)
                self.seconds[test] = time.monotonic() - start
                if outcome != "passed":
                    self.broken[test] = told
            return self.seconds[test]


@dataclass(frozen=True)
class Verdict:
    """How a fault ended: killed (by a failure or by its time), survived, or nobody knows."""

    fault: one.Fault
    killed: bool
    told: str
    known: bool = True


def judge(tree: Tree, fault: one.Fault, stages: list[list[str]], baseline: Baseline) -> Verdict:
    """Plant it, and ask stage by stage until a test fails."""
    with one.planted(fault, tree.root):
        for stage in stages:
            tests = sorted((test for test in stage if test not in OWN), key=baseline.measure)
            tests = [test for test in tests if test not in baseline.broken]
            if not tests:
                continue
            allowed = SLACK_SECONDS + SLOWER * sum(baseline.measure(test) for test in tests)
            outcome, told = tree.run(tests, baseline.checkout, allowed)
            if outcome == "unknown":
                return Verdict(fault, False, told, known=False)
            if outcome != "passed":
                return Verdict(fault, True, told)
    return Verdict(fault, False, "")
