"""What would happen to a package: the recipe that matches it, and what it makes of its payload.

Owns: joining a recipe with a package's own words. Refuses: changing anything. Invariant: what it
says about a package file is what the engine would do with exactly that file.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import UsageError
from ramos.formats import apk, deb
from ramos.formats.archive import DIRECTORY, Member
from ramos.packages.recipe import Effect, Recipe, find_recipe, plan_package


@dataclass(frozen=True)
class Explanation:
    """A recipe for a package; with a plan when the package's file was at hand."""

    package: str
    version: str
    recipe: Recipe | None
    plan: Effect | None


def explain_name(recipes: Iterable[Recipe], name: str, base: str) -> Explanation:
    """What a package of this name would get."""
    return Explanation(name, "", find_recipe(recipes, name, base), None)


def explain_file(recipes: Iterable[Recipe], path: Path) -> Explanation:
    """What this very file would get."""
    reader = READERS.get(path.suffix)
    if reader is None:
        reason = f"its name ends in none of {', '.join(READERS)}"
        raise UsageError("cannot explain", path, reason, "", "Name a package, or a package file.")
    return reader(recipes, path)


def _explain_deb(recipes: Iterable[Recipe], path: Path) -> Explanation:
    package = deb.read_package(path)
    recipe = find_recipe(recipes, package.name, "debian")
    if recipe is None:
        return Explanation(package.name, package.version, None, None)
    files = _list_files(member for member, _ in deb.read_members(package))
    plan = plan_package(recipe, files, package.scripts, package.depends)
    return Explanation(package.name, package.version, recipe, plan)


def _explain_apk(recipes: Iterable[Recipe], path: Path) -> Explanation:
    package = apk.read_package(path)
    recipe = find_recipe(recipes, package.name, "alpine")
    if recipe is None:
        return Explanation(package.name, package.version, None, None)
    plan = plan_package(recipe, _list_files(package.members), package.scripts, package.depends)
    return Explanation(package.name, package.version, recipe, plan)


def _list_files(members: Iterable[Member]) -> list[tuple[str, int]]:
    return [(member.name, member.size) for member in members if member.kind != DIRECTORY]


Reader = Callable[[Iterable[Recipe], Path], Explanation]
READERS: dict[str, Reader] = {".deb": _explain_deb, ".apk": _explain_apk}
