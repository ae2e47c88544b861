"""Recipes: what happens to a special package instead of a plain installation.

Owns: the TOML format of a recipe, which package a recipe is for, and the plan that it makes of a
package's payload. Refuses: reading files (text in, dataclass out). Invariants: what a recipe does
not mention stays as it came; a recipe with anything wrong in it is an error as a whole, never a
recipe that does half of what was meant; a user's recipe wins over a shipped one.
"""

import difflib
import fnmatch
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ramos.errors import RamosError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BASES = ("alpine", "debian")
# where a part of the payload can leave for
PLACES = {
    "modules": "the modules image of its kernel",
    "firmware": "the firmware image",
    "kernel": "the ESP, as vmlinuz",
    "microcode": "the front of each initramfs",
    "drop": "nowhere: RAMOS does without it",
}
STEPS = {
    "kernel": "a new kernel directory on the ESP: vmlinuz, initramfs and the boot menu's entry",
    "initramfs": "a new initramfs for the newest kernel",
}
SCRIPTS = {
    "alpine": (
        "pre-install",
        "post-install",
        "pre-upgrade",
        "post-upgrade",
        "pre-deinstall",
        "post-deinstall",
        "trigger",
    ),
    "debian": ("preinst", "postinst", "prerm", "postrm", "config", "triggers"),
}
KEYS = {
    "base": str,
    "summary": str,
    "match": list,
    "except": list,
    "move": dict,
    "scripts": dict,
    "depends": dict,
    "after": list,
}
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9.+_-]*")
GLOB_PATTERN = re.compile(r"[A-Za-z0-9.+_*?\[\]!-]+")


@dataclass(frozen=True)
class Move:
    """A part of the payload, and where it leaves for."""

    pattern: str
    place: str


@dataclass(frozen=True)
class Recipe:
    """What is done to the packages that it matches."""

    name: str
    source: str
    base: str
    summary: str
    match: tuple[str, ...]
    excludes: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    dropped_scripts: tuple[str, ...] = ()
    replaced_scripts: tuple[tuple[str, str], ...] = ()
    dropped_depends: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def matches(self, package: str) -> bool:
        """Whether a package is this recipe's business."""
        wanted = any(fnmatch.fnmatchcase(package, pattern) for pattern in self.match)
        return wanted and not any(fnmatch.fnmatchcase(package, p) for p in self.excludes)

    def find_place(self, path: str) -> str:
        """Where a path of the payload leaves for; empty when it stays in the package."""
        for move in self.moves:
            if match_path(path, move.pattern):
                return move.place
        return ""


@dataclass(frozen=True)
class Part:
    """One line of a plan: what a move of the recipe takes from one package."""

    pattern: str
    place: str
    files: int
    size_bytes: int


@dataclass(frozen=True)
class Effect:
    """What a recipe makes of one package."""

    recipe: Recipe
    parts: tuple[Part, ...]
    stays_files: int
    stays_bytes: int
    dropped_scripts: tuple[str, ...]
    replaced_scripts: tuple[str, ...]
    kept_scripts: tuple[str, ...]
    dropped_depends: tuple[str, ...]


def match_path(path: str, pattern: str) -> bool:
    """Whether a path, or a directory above it, matches; `*` stays within one directory."""
    wanted = pattern.strip("/").split("/")
    parts = path.split("/")
    return len(parts) >= len(wanted) and all(
        fnmatch.fnmatchcase(part, want) for part, want in zip(parts, wanted, strict=False)
    )


def parse_recipe(text: str, source: str) -> Recipe:
    """Read one recipe; `source` is its file, for messages; the file's stem is its name."""
    name = source.rpartition("/")[2].removesuffix(".toml")
    if NAME_PATTERN.fullmatch(name) is None:
        raise _invalid(source, "its file name is not lower-case letters, digits and .+_- .toml")
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _invalid(source, error) from None
    for key, value in table.items():
        if key not in KEYS:
            raise _invalid(
                source, f"line {_find_line(text, key)}: no key {key!r}{_near(key, KEYS)}"
            )
        if not isinstance(value, KEYS[key]):
            wanted = {str: "a text", list: "a list", dict: "a table"}[KEYS[key]]
            raise _invalid(source, f"line {_find_line(text, key)}: {key} must be {wanted}")
    return _build_recipe(table, name, source)


def find_recipe(recipes: Iterable[Recipe], package: str, base: str) -> Recipe | None:
    """The recipe for a package: the first one that matches (users' own stand first)."""
    candidates = (r for r in recipes if r.base == base and r.matches(package))
    return next(candidates, None)


def render_special(recipes: Iterable[Recipe], base: str) -> str:
    """For wrappers and hooks (special.sh): one recipe a line; a ! takes names out again."""
    ours = [recipe for recipe in recipes if recipe.base == base]
    lines = (" ".join((*r.match, *(f"!{pattern}" for pattern in r.excludes))) for r in ours)
    return "".join(f"{line}\n" for line in lines)


def order_recipes(shipped: Sequence[Recipe], own: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """Users' own recipes first; one with the name of a shipped one takes its place."""
    names = {recipe.name for recipe in own}
    return (*own, *(recipe for recipe in shipped if recipe.name not in names))


def plan_package(
    recipe: Recipe,
    files: Iterable[tuple[str, int]],
    scripts: Iterable[str],
    depends: Iterable[str],
) -> Effect:
    """What would leave for where, and which scripts and dependencies would go."""
    taken: dict[Move, list[int]] = {move: [] for move in recipe.moves}
    stays: list[int] = []
    for path, size_bytes in files:
        move = next((m for m in recipe.moves if match_path(path, m.pattern)), None)
        (stays if move is None else taken[move]).append(size_bytes)
    present = tuple(scripts)
    replaced = tuple(name for name, _ in recipe.replaced_scripts)
    dropped = tuple(s for s in present if s in recipe.dropped_scripts)
    return Effect(
        recipe=recipe,
        parts=tuple(Part(m.pattern, m.place, len(s), sum(s)) for m, s in taken.items()),
        stays_files=len(stays),
        stays_bytes=sum(stays),
        dropped_scripts=dropped,
        replaced_scripts=replaced,
        kept_scripts=tuple(s for s in present if s not in dropped and s not in replaced),
        dropped_depends=tuple(d for d in depends if drops_depend(recipe, d)),
    )


def drops_depend(recipe: Recipe, depend: str) -> bool:
    """Whether a dependency (`name`, `name (>= 1)`, `name>=1`, `a | b`) goes as a whole."""
    names = [re.split(r"[\s(<>=~:@]", part.strip(), maxsplit=1)[0] for part in depend.split("|")]
    return bool(names) and all(
        any(fnmatch.fnmatchcase(name, pattern) for pattern in recipe.dropped_depends)
        for name in names
    )


def _build_recipe(table: Mapping[str, Any], name: str, source: str) -> Recipe:
    base = table.get("base", "")
    if base not in BASES:
        raise _invalid(source, f"base must be one of {', '.join(BASES)}, not {base!r}")
    match = _read_words(table, "match", source, GLOB_PATTERN)
    if not match:
        raise _invalid(source, "match names no package")
    dropped, replaced = _read_scripts(table.get("scripts", {}), base, source)
    depends = table.get("depends", {})
    _check_keys(depends, ("drop",), "depends", source)
    after = _read_words(table, "after", source)
    for step in after:
        if step not in STEPS:
            raise _invalid(source, f"after: no step {step!r}{_near(step, STEPS)}")
    return Recipe(
        name=name,
        source=source,
        base=base,
        summary=table.get("summary", ""),
        match=match,
        excludes=_read_words(table, "except", source, GLOB_PATTERN),
        moves=_read_moves(table.get("move", {}), source),
        dropped_scripts=dropped,
        replaced_scripts=replaced,
        dropped_depends=_read_words(depends, "drop", source, GLOB_PATTERN),
        after=after,
    )


def _read_moves(table: Mapping[str, Any], source: str) -> tuple[Move, ...]:
    moves = []
    for pattern, place in table.items():
        parts = pattern.split("/")
        if not pattern or pattern.startswith("/") or any(p in ("", ".", "..") for p in parts):
            raise _invalid(source, f"move: {pattern!r} is not a relative path without . and ..")
        if not isinstance(place, str) or place not in PLACES:
            places = ", ".join(PLACES)
            raise _invalid(source, f"move: {pattern!r}: no place {place!r}; there are {places}")
        moves.append(Move(pattern, place))
    return tuple(moves)


def _read_scripts(
    table: Mapping[str, Any], base: str, source: str
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The scripts that go (a list, or "all"), and those that are replaced."""
    known = SCRIPTS[base]
    _check_keys(table, ("drop", "replace"), "scripts", source)
    value = table.get("drop", [])
    dropped = known if value == "all" else _read_words(table, "drop", source)
    replace = table.get("replace", {})
    if not isinstance(replace, dict) or not all(isinstance(v, str) for v in replace.values()):
        raise _invalid(source, "scripts.replace must be a table of script = text")
    for script in (*dropped, *replace):
        if script not in known:
            raise _invalid(source, f"scripts: no script {script!r}{_near(script, known)}")
    for script, text in replace.items():
        if not text.startswith("#!"):
            raise _invalid(source, f"scripts.replace: {script} does not begin with #!")
    return tuple(s for s in dropped if s not in replace), tuple(replace.items())


def _read_words(
    table: Mapping[str, Any], key: str, source: str, pattern: re.Pattern[str] | None = None
) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise _invalid(source, f"{key} must be a list of words")
    for word in value:
        if pattern is not None and pattern.fullmatch(word) is None:
            raise _invalid(source, f"{key}: {word!r} is not a package name or pattern")
    return tuple(value)


def _check_keys(table: Mapping[str, Any], keys: Sequence[str], name: str, source: str) -> None:
    for key in table:
        if key not in keys:
            raise _invalid(source, f"no key {name}.{key}{_near(key, keys)}")


def _near(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(words), 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(words)}"


def _find_line(text: str, key: str) -> int:
    pattern = re.compile(rf"\s*(\[\s*)?\"?{re.escape(key)}\b")
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if pattern.match(line)), 1)


def _invalid(source: str, reason: object) -> RamosError:
    return RamosError(
        "cannot use recipe",
        source,
        reason,
        "No package was touched",
        "man ramos-recipe describes the format; 'ramos pkg recipes' checks all of them.",
    )
