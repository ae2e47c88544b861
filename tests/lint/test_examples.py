"""The examples say what the program understands."""

from pathlib import Path

import pytest

from ramos.config import merge
from ramos.packages.recipe import parse_recipe
from tests.lint import rules

EXAMPLES = rules.REPOSITORY / "examples"
RECIPES = sorted((EXAMPLES / "recipes.d").glob("*.toml"))


def name(path: Path) -> str:
    return path.name


def test_settings_are_understood_and_change_something() -> None:
    file = EXAMPLES / "ramos.toml"
    loaded = merge([(file.name, file.read_text(encoding="utf-8"))])
    assert loaded.problems == ()
    assert len([s for s in loaded.settings if s.source == file.name]) > 3


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_recipes_are_understood(path: Path) -> None:
    recipe = parse_recipe(path.read_text(encoding="utf-8"), path.name)
    assert recipe.match


def test_there_are_examples() -> None:
    known = {EXAMPLES / "ramos.toml", *RECIPES}
    assert len(RECIPES) >= 2
    assert {path for path in EXAMPLES.rglob("*") if path.is_file()} == known, "each one is tested"
