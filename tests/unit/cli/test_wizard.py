"""Whether the builder asks: never where it was told enough, and only on a terminal."""

import io
import sys
from typing import Any

import pytest

from ramos.cli import wizard
from ramos.errors import UsageError

NOTHING: dict[str, Any] = {"batch": False, "try_it": False, "plan_only": False}


@pytest.mark.parametrize("told", NOTHING)
def test_who_is_told_enough_asks_nothing(told: str) -> None:
    assert not wizard.is_wanted({**NOTHING, told: True})


def test_without_a_terminal_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(UsageError, match="no --batch"):
        wizard.is_wanted(NOTHING)
