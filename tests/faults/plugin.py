"""A plugin of pytest: the log of what runs (see `tracer`) also says which test it runs for.

Owns: `= test` where one begins, `~` and `.` around what is made for more tests than one, and
`! test`, the outcome and the seconds where a part of one ends.
"""

from collections.abc import Generator

import pytest

import ramos

TRACER = vars(ramos)


def say(line: str) -> None:
    """Into the log; all functions are new again."""
    TRACER["note"](line)
    TRACER["SEEN"].clear()


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test begins."""
    say(f"= {nodeid}")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
    """What lives longer than a test is for all of them."""
    if fixturedef.scope == "function":
        return (yield)
    say("~")
    try:
        return (yield)
    finally:
        say(".")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A part of a test ends."""
    say(f"! {report.outcome} {report.duration:.3f} {report.nodeid}")
