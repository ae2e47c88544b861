"""A Python module that is missing: named with its package where it is one of ours to need."""

import sys

import pytest

from ramos.__main__ import main


@pytest.mark.parametrize("name", ["click", "psutil"])
def test_the_package_of_a_module_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "ramos.cli", None)

    def fail(*_: object) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("builtins.__import__", fail)
    with pytest.raises(SystemExit, match=f"python3-{name}"):
        main()


def test_a_module_that_nobody_packages_is_a_bug_and_shown_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'ramos.gone'", name="ramos.gone")

    monkeypatch.setattr("builtins.__import__", fail)
    with pytest.raises(ModuleNotFoundError, match=r"ramos\.gone"):
        main()
