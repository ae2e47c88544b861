"""What the commands of saving say."""

import pytest

from ramos.booted import Mode
from ramos.cli.save import describe_mode


@pytest.mark.parametrize(
    ("asked", "shown"),
    [(Mode.CLEAN, "clean"), (Mode.BACKUP, "clean (backup was asked for)")],
)
def test_a_mode_that_nobody_asked_for_is_told(asked: Mode, shown: str) -> None:
    assert describe_mode(Mode.CLEAN, asked) == shown
