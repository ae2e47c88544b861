"""What all tiers share: the tier's marker is set by the folder, and needs of a tier are checked."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
TIERS_WITH_NEEDS = ("root", "vm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test of the tiers that need something, and say what is missing."""
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        if tier in TIERS_WITH_NEEDS:
            item.add_marker(getattr(pytest.mark, tier))
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason=f"the {tier} tier needs root"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the source tree."""
    return REPOSITORY
