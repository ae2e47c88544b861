"""Every shell that runs the hooks, and a machine to boot in it."""

from pathlib import Path

import pytest

from tests.labs.harness import SHELLS, Machine


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with a good stick of three generations."""
    made = Machine(tmp_path / "m")
    made.add_stick()
    made.add_history()
    return made
