"""Copies of the tree, and tests that run in them.

Owns: the copies and the processes; each test run is in namespaces of its own (`inside.sh`), and
ends with its time. Invariant: the checkout is read, never written.
"""

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.faults.fault import Fault, planted
from tests.faults.notes import Stage

Item = TypeVar("Item")
Result = TypeVar("Result")
REPOSITORY = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).with_name("inside.sh")
LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", ".git", ".venv", ".cache", ".hypothesis", "*.img", "*.qcow2", "*.egg-info"
)
# A fault is not found by the look of its text.
NOT_ASKED = ("test_ruff", "test_format")
SLACK_SECONDS = 60.0
SLOWER = 6.0
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
        (home / "tmp").chmod(0o1777)
        return cls(home)

    @property
    def root(self) -> Path:
        """Where the files are."""
        return self.place / "tree"

    def run(
        self, tests: list[str], checkout: Path, seconds: float, options: tuple[str, ...] = ("-x",)
    ) -> tuple[str, str]:
        """`passed`, `failed`, `timeout` or `unknown`, and the last line that says so."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
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


def share(
    copies: list[Tree],
    items: list[Item],
    work: Callable[[Tree, Item], Result],
    show: Callable[[Result], None],
) -> list[Result]:
    """Do something for each item, in a copy that nobody else has meanwhile."""
    free: queue.SimpleQueue[Tree] = queue.SimpleQueue()
    for tree in copies:
        free.put(tree)
    ended, lock = threading.Event(), threading.Lock()

    def do(item: Item) -> Result | None:
        tree = free.get()
        try:
            result = None if ended.is_set() else work(tree, item)
        finally:
            free.put(tree)
        if result is None or ended.is_set():
            return None  # its tests were ended, not failed
        with lock:
            show(result)
        return result

    with ThreadPoolExecutor(len(copies)) as pool:
        try:
            return [result for result in pool.map(do, items) if result is not None]
        finally:
            ended.set()
            for tree in copies:
                tree.stop()


@dataclass(frozen=True)
class Verdict:
    """How a fault ended: killed (by a failure or by its time), survived, or nobody knows."""

    fault: Fault
    killed: bool
    told: str
    known: bool = True


def judge(tree: Tree, fault: Fault, stages: list[Stage], checkout: Path) -> Verdict:
    """Plant it, and ask stage by stage until a test fails, which passes without the fault."""
    with planted(fault, tree.root):
        for stage in stages:
            allowed = SLACK_SECONDS + SLOWER * sum(stage.values())
            outcome, told = tree.run([*stage], checkout, allowed)
            if outcome == "unknown":
                return Verdict(fault, False, told, known=False)
            if outcome != "passed":
                break
        else:
            return Verdict(fault, False, "")
    # Time has passed since it was measured, and tests that were ended leave things in the copy.
    if outcome == "failed" and tree.run([name_test(told)], checkout, allowed)[0] == "failed":
        return Verdict(fault, False, f"without the fault, too: {told}", known=False)
    return Verdict(fault, True, told)


def name_test(told: str) -> str:
    """The test that a line of pytest's summary is about."""
    return told.partition(" ")[2].partition(" - ")[0]
