"""What all tiers share: the tier's marker is set by the folder, and needs of a tier are checked.

A run has one directory for all that it makes. It is gone when all tests passed; a run that leaves
anything else has failed (see `leftovers`).
"""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

from tests import leftovers
from tests.labs import alpine, alpine_root

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
TIERS_WITH_NEEDS = ("root", "vm")
# What is quick first; then what takes minutes, so that no worker is left alone with it at the end.
ORDER = ("lint", "unit", "sh", "vm", "root")
# Every run draws the same examples: what passes for whoever changed something passes for everybody.
# A hunt for what nobody thought of draws others.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile("default" if os.environ.get("RAMOS_CHANCE") else "same")


# No test asks a mirror of the outside world for Alpine.
os.environ["RAMOS_ALPINE_MIRROR"] = "none"
SCRATCH = pytest.StashKey[leftovers.Scratch]()
PASSED = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A directory for the run; it is the workers' as well.

    A shell without job control starts what runs in its background deaf to Ctrl-C.
    """
    if not hasattr(config, "workerinput"):
        config.stash[SCRATCH] = scratch = leftovers.make_scratch()
        config.option.basetemp = config.option.basetemp or str(scratch.pytest)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Nothing of a run stays; what tests that failed made does, to be looked at."""
    scratch = session.config.stash.get(SCRATCH, None)
    if scratch is None:
        return
    found = leftovers.find_leftovers(scratch)
    if exitstatus in PASSED and not found:
        leftovers.remove_scratch(scratch)
        return
    print(f"\nwhat the tests made is in {scratch.path}")
    for line in found:
        print(f"left behind: {line}")
    if exitstatus in PASSED:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def find_tier(item: pytest.Item) -> str:
    """The folder of a test."""
    return item.path.relative_to(TESTS).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tiers, mark those that need something, and say what is missing."""
    items.sort(key=lambda item: ORDER.index(find_tier(item)))
    for item in items:
        tier = find_tier(item)
        if tier in TIERS_WITH_NEEDS:
            item.add_marker(getattr(pytest.mark, tier))
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason=f"the {tier} tier needs root"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which Alpine it was that the tests had."""
    for line in alpine.describe():
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"apk of the tests: {alpine_root.name_tools()}")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the source tree."""
    return REPOSITORY
