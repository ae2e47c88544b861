"""Writes that survive a power cut: the place where a test lets the power go."""

import os
import signal
import subprocess
import sys

import pytest

from ramos.linux.fs import CRASH_VARIABLE

PROGRAM = "from ramos.linux.fs import crash_point\ntry: crash_point('here')\nfinally: print('on')"


@pytest.mark.parametrize(("asked", "status"), [("here", -signal.SIGKILL), ("there", 0), ("", 0)])
def test_the_power_goes_where_it_was_asked_and_nothing_is_cleaned_up(
    asked: str, status: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, CRASH_VARIABLE: asked},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, b"" if status else b"on\n")
