"""Taking a special package apart: what stays a package, and what leaves for the stick.

Owns: unpacking one verified package into a private directory, sorting its payload by the recipe,
and writing the package that stays. Refuses: kernels without modules, payload that is not a plain
file where one is needed. Invariant: nothing outside the given directory is touched.

    WORK/<package>/root        what was unpacked; what is not sorted out of it stays a package
    WORK/<package>/<place>     what leaves, with its paths: modules, firmware, kernel, microcode
    WORK/<package>/<file>      the package that stays
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RefusedError
from ramos.formats import apk, apk_pack, deb
from ramos.formats.deb_package import change_package
from ramos.formats.selection import Rewriting, list_parents
from ramos.packages.recipe import Recipe, drops_depend

MARK = "Ramos-Recipe"
# Where kernels and firmware look: `lib` on its own, or below `usr` where `/lib` is a link.
LIBRARY_ROOTS = ("usr/lib", "lib")


@dataclass(frozen=True)
class Staged:
    """One special package, taken apart."""

    name: str
    version: str
    recipe: Recipe
    path: Path
    places: Mapping[str, Path]

    @property
    def kernels(self) -> tuple[str, ...]:
        """The kernel versions whose modules it brings."""
        return tuple(sorted(path.name for path in self.list_below("modules", "modules")))

    def list_below(self, place: str, folder: str) -> list[Path]:
        """What lies in `lib/FOLDER` or `usr/lib/FOLDER` of a place."""
        top = self.places.get(place)
        roots = [top / root / folder for root in LIBRARY_ROOTS] if top else []
        return [path for root in roots if root.is_dir() for path in root.iterdir()]


def stage_deb(path: Path, recipe: Recipe, work: Path) -> Staged:
    """Take a Debian package apart."""
    package = deb.read_package(path)
    folder = _make_folder(work, package.name)
    names = deb.unpack(package, folder / "root")
    places = sort_payload(names, folder, recipe)
    fields: dict[str, str | None] = {MARK: recipe.name}
    for key in ("Depends", "Pre-Depends", "Recommends"):
        if key in package.fields:
            fields[key] = _filter_relations(package.fields[key], recipe)
    for name in sorted(list_emptied(names, recipe), reverse=True):
        (folder / "root" / name).rmdir()
    changed = change_package(package, fields, _plan_scripts(recipe, package.scripts))
    built = deb.build(changed, folder / "root", folder / package.file_name)
    shutil.rmtree(folder / "root")
    return Staged(package.name, package.version, recipe, built.path, places)


def stage_apk(path: Path, recipe: Recipe, work: Path, key: Path) -> Staged:
    """Take an Alpine package apart, and sign what stays with the stick's key."""
    package = apk.read_package(path)
    folder = _make_folder(work, package.name)
    names = apk.unpack(package, folder / "root")
    places = sort_payload(names, folder, recipe)
    kept = [depend for depend in package.depends if not drops_depend(recipe, depend)]
    fields: dict[str, str | None] = {}
    if len(kept) != len(package.depends):
        fields["depend"] = " ".join(kept) or None
    change = Rewriting(
        lambda name: not recipe.find_place(name), fields, _plan_scripts(recipe, package.scripts)
    )
    rewritten = apk_pack.rewrite(package, folder / package.file_name, key, change)
    shutil.rmtree(folder / "root")
    return Staged(package.name, package.version, recipe, rewritten.path, places)


def sort_payload(names: list[str], folder: Path, recipe: Recipe) -> dict[str, Path]:
    """Move each part of the unpacked payload that leaves to the directory of its place."""
    places: dict[str, Path] = {}
    for name in names:
        place = recipe.find_place(name)
        source = folder / "root" / name
        if not place or not (source.exists() or source.is_symlink()):
            continue  # it stays, or its directory has left already
        target = folder / place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        places[place] = folder / place
    return places


def find_vmlinuz(staged: Staged) -> Path | None:
    """The kernel image among what leaves; more than one is an error."""
    top = staged.places.get("kernel")
    found = [path for path in sorted(top.rglob("*")) if not path.is_dir()] if top else []
    if len(found) > 1 or any(path.is_symlink() or not path.is_file() for path in found):
        reason = f"its kernel is not one plain file: {', '.join(path.name for path in found)}"
        raise RefusedError("cannot use kernel package", staged.name, reason)
    return found[0] if found else None


def _make_folder(work: Path, name: str) -> Path:
    folder = work / name
    folder.mkdir(parents=True, mode=0o700)
    return folder


def _filter_relations(value: str, recipe: Recipe) -> str | None:
    kept = [part.strip() for part in value.split(",") if not drops_depend(recipe, part)]
    return ", ".join(part for part in kept if part) or None


def list_emptied(names: Sequence[str], recipe: Recipe) -> set[str]:
    """Directories that only led to what leaves.

    They must not stay: dpkg takes a package with nothing but directories that others have too for
    one that was replaced, and forgets it.
    """
    leaving = {name for name in names if recipe.find_place(name)}
    led = {parent for name in leaving for parent in list_parents(name)}
    staying = [name for name in names if name not in leaving and name not in led]
    return led - leaving - {parent for name in staying for parent in list_parents(name)}


def _plan_scripts(recipe: Recipe, scripts: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """The scripts that go, or are replaced."""
    changed: dict[str, bytes | None] = {
        name: None for name in scripts if name in recipe.dropped_scripts
    }
    return changed | {name: text.encode() for name, text in recipe.replaced_scripts}
