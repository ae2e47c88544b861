"""The recipes that are on this machine: shipped ones and the user's own.

Owns: where recipes lie, and reading all of them. Refuses: using any while one of the user's own
is wrong (it was written to have an effect). Invariant: a broken recipe is named with its file.
"""

from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.errors import RamosError, UsageError
from ramos.packages.recipe import BASES, Recipe, order_recipes, parse_recipe

SHIPPED_NAME = "apk-triggers"


@dataclass(frozen=True)
class Recipes:
    """All recipes in the order in which they are asked, and what is wrong with the others."""

    usable: tuple[Recipe, ...]
    problems: tuple[RamosError, ...]

    def require_sound(self) -> tuple[Recipe, ...]:
        """The recipes, when none of them is broken."""
        if self.problems:
            raise self.problems[0]
        return self.usable


def find_shipped_dir() -> Path:
    """The folder of the shipped recipes: of the source tree, or of the installed system."""
    return layout.find_data(SHIPPED_NAME)


def load_recipes(own: Path = layout.RECIPES_DIR) -> Recipes:
    """Read every recipe there is."""
    shipped, shipped_problems = _read_folder(find_shipped_dir())
    mine, own_problems = _read_folder(own)
    return Recipes(order_recipes(shipped, mine), (*own_problems, *shipped_problems))


def detect_base(root: Path = Path("/")) -> str:
    """Which package manager this system has."""
    if (root / "etc/alpine-release").exists() or (root / "lib/apk/db").is_dir():
        return "alpine"
    if (root / "var/lib/dpkg").is_dir():
        return "debian"
    reason = f"it has the packages of none of {', '.join(BASES)}"
    raise UsageError("cannot tell what system this is", root, reason)


def _read_folder(folder: Path) -> tuple[list[Recipe], list[RamosError]]:
    recipes: list[Recipe] = []
    problems: list[RamosError] = []
    for path in sorted(folder.glob("*.toml")) if folder.is_dir() else ():
        try:
            recipes.append(parse_recipe(path.read_text(encoding="utf-8"), str(path)))
        except RamosError as error:
            problems.append(error)
        except (OSError, UnicodeDecodeError) as error:
            problems.append(RamosError("cannot read recipe", path, error))
    return recipes, problems
