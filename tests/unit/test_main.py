"""A Python module that is missing: named with its package where it is one of ours to need."""

import builtins
from typing import Any

import pytest

from ramos.__main__ import main


def lose(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the command's own import end at a module that is not there."""
    real = builtins.__import__

    def load(wanted: str, *rest: Any) -> Any:
        if wanted == "ramos":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(wanted, *rest)

    monkeypatch.setattr(builtins, "__import__", load)


@pytest.mark.parametrize("name", ["click", "psutil"])
def test_the_package_of_a_module_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lose(monkeypatch, name)
    with pytest.raises(SystemExit, match=f"python3-{name}"):
        main()


def test_a_module_that_nobody_packages_is_a_bug_and_shown_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose(monkeypatch, "ramos.gone")
    with pytest.raises(ModuleNotFoundError, match=r"ramos\.gone"):
        main()
