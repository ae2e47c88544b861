"""ruff, mypy --strict and shellcheck are content."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.lint import rules


def check(*argv: str | Path) -> None:
    done = subprocess.run(argv, cwd=rules.REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    check(sys.executable, "-m", "ruff", "check", "ramos", "tests", "bench")


def test_format() -> None:
    check(sys.executable, "-m", "ruff", "format", "--check", "ramos", "tests", "bench")


def test_mypy() -> None:
    check(sys.executable, "-m", "mypy")


@pytest.mark.skipif(not rules.list_shell(), reason="there is no sh yet")
def test_shellcheck() -> None:
    check("shellcheck", *rules.list_shell())
