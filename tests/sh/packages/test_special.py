"""Which names are special: sh says of each what the recipes say, and apt keeps no fewer."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from ramos.packages.debian_settings import render_expression
from ramos.packages.recipe import BASES, Recipe, find_recipe, render_special
from ramos.packages.recipes import load_recipes
from tests.conftest import REPOSITORY
from tests.labs.harness import SHELLS

SPECIAL = REPOSITORY / "apk-triggers/special.sh"
ODD = ("odd[0-9]?", "g++*", "*.d", "firmware-tomu", "linux-firmware-tomu")
# What one recipe takes out again may be another one's business: here, of a user's own.
OWN = [Recipe("own", "own.toml", base, "", ODD, ("odd[!1]x", "*-none.d")) for base in BASES]
RECIPES = (*OWN, *load_recipes().usable)


def list_names() -> Iterator[str]:
    """Names that patterns match, and others that only just miss them."""
    yield from ("htop", "linux", "odd1y", "odd1x", "odd2x", "odd2", "g++", "ggg", "x.d", "x-none.d")
    for recipe in RECIPES:
        for pattern in (*recipe.match, *recipe.excludes):
            for filling in ("", "-", "6.1.0-1-amd64", "microbit-x", "x-dbg", "x-unsigned", "tomu"):
                name = pattern.replace("*", filling).replace("[0-9]", "4")
                yield from (name, f"x{name}", f"{name}x", name[:-1])


NAMES = sorted({name for name in list_names() if name and not re.search(r"[\[\]!?]", name)})


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("shell", SHELLS)
def test_sh_and_python_tell_the_same_names(shell: str, base: str) -> None:
    patterns = render_special(RECIPES, base)
    program = f". {SPECIAL}; load_patterns /dev/fd/3; list_special"
    argv = [
        "sh",
        "-c",
        "exec 3<<EOF\n" + patterns + 'EOF\nexec "$@"',
        "-",
        *SHELLS[shell],
        "-c",
        program,
    ]
    done = subprocess.run(
        argv, input="\n".join(NAMES) + "\n", text=True, capture_output=True, check=True
    )
    wanted = [name for name in NAMES if find_recipe(RECIPES, name, base)]
    assert done.stderr == ""
    assert done.stdout.splitlines() == wanted
    assert 20 < len(wanted) < len(NAMES) - 20


def test_apt_removes_nothing_that_is_special() -> None:
    debian = [recipe for recipe in RECIPES if recipe.base == "debian"]
    kept = [re.compile(render_expression(p)) for recipe in debian for p in recipe.match]
    for name in NAMES:
        if find_recipe(debian, name, "debian"):
            assert any(expression.search(name) for expression in kept), name
