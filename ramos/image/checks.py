"""What a build refuses before its long steps: one table for the build, `--plan` and the wizard.

Owns: the checks, and which options each is about. Refuses: changing anything.
Invariant: what can be known before a root tree is made is known here; the steps themselves find
what only the mirror's packages or the finished tree can tell (a package that nobody has).
"""

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from ramos.errors import RamosError, RefusedError
from ramos.image import cache, figures, tools
from ramos.image.bases import BASES
from ramos.image.plan import (
    WORDS,
    Plan,
    check_word,
    too_small,
    unknown_keymap,
    unknown_timezone,
)
from ramos.sizes import MIB, format_size

# Beside what the system takes: the ESP and the tables of an image.
TABLES_BYTES = 32 * MIB
# What this machine knows of time zones and keyboards, where it knows any.
ZONES = Path("/usr/share/zoneinfo")
LAYOUTS = Path("/usr/share/X11/xkb/symbols")


Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One thing that is looked at; `about` are the options that it depends on and can be asked."""

    about: tuple[str, ...]
    look: Callable[[Subject], None]
    # The first step of a build is the same look, at the same time.
    is_first_step: bool = False


@dataclass(frozen=True)
class Refusal:
    """Why a plan cannot be carried out, and what it is about."""

    about: tuple[str, ...]
    error: RamosError


def check_output(plan: Plan) -> None:
    """Refuse a place where no image file can be."""
    output, reason = plan.output, ""
    hint = "Give --output the name of a file."
    if output.is_dir():
        reason = "it is a directory"
    elif output.exists() and not output.is_file():
        reason = "it is a device"
        hint = "Give --device to write to a stick, or --output the name of a file."
    elif not output.parent.is_dir():
        reason = f"there is no directory {output.parent}"
    elif not os.access(output.parent, os.W_OK):
        reason = f"the directory {output.parent} cannot be written to"
    if reason:
        raise RefusedError("cannot write image", output, reason, hint=hint)


def check_cache(plan: Plan) -> None:
    """Refuse a cache that cannot be made, or not be written to."""
    there, reason = find_parent(plan.cache), ""
    if not there.is_dir():
        reason = f"{there} is not a directory"
    elif not os.access(there, os.W_OK):
        reason = f"{there} cannot be written to"
    if reason:
        hint = "Give --cache another directory."
        raise RefusedError("cannot keep what is built", plan.cache, reason, hint=hint)


def find_parent(path: Path) -> Path:
    """The last part of a way that is there."""
    return next(part for part in (path, *path.parents) if part.exists())


def check_size(plan: Plan) -> None:
    """Refuse a size, or a disk, in which no system of this kind has room to be saved to."""
    least = figures.find_least_size(plan)
    if 0 < (plan.device_bytes or plan.size_bytes) < least:
        raise too_small(plan, least)


def check_room(plan: Plan) -> None:
    """Refuse a disk on which the image does not fit, or the cache with its root tree."""
    least = figures.find_least(plan)
    tree = 0 if cache.has_any_tree(plan.cache) else least.tree_mib * MIB
    # The parts of an image are made in the cache, and then put together.
    made = least.image_mib * MIB + TABLES_BYTES
    needs: dict[int, tuple[Path, int]] = {}
    for place, size in ((plan.output.parent, made), (plan.cache, tree + made)):
        there = find_parent(place)
        named, before = needs.get(there.stat().st_dev, (place, 0))
        needs[there.stat().st_dev] = (named, before + size)
    for place, size in needs.values():
        free = shutil.disk_usage(find_parent(place)).free
        if free < size:
            raise RefusedError(
                "cannot build",
                place,
                f"{format_size(free)} are free there, and {format_size(size)} is the least",
                hint="Make room, or name another place with --output or --cache.",
            )


def check_timezone(plan: Plan) -> None:
    """Refuse a name that no zone has, where this machine knows them."""
    if (ZONES / "UTC").is_file() and not (ZONES / plan.timezone).is_file():
        raise unknown_timezone(plan.timezone, "no zone has this name")


def check_keymap(plan: Plan) -> None:
    """Refuse a name that no layout has, where this machine knows Debian's; Alpine has its own."""
    layout = plan.keymap.partition("-")[0]
    if plan.base == "debian" and (LAYOUTS / "us").is_file() and not (LAYOUTS / layout).is_file():
        raise unknown_keymap(plan.keymap, "no layout has this name")


def check_mirror(plan: Plan) -> None:
    """Refuse a release that the mirror does not have, and a mirror that does not answer."""
    base = BASES[plan.base]
    with tempfile.TemporaryDirectory(prefix="ramos-mirror-") as directory:
        (Path(directory) / plan.base).mkdir()
        source = base.resolve(replace(plan, cache=Path(directory)))
    if not source.state and not cache.has_tree(plan, source, base):
        raise cache.no_answer(source)


CHECKS: tuple[Check[Plan], ...] = (
    *(Check((field,), functools.partial(check_word, field)) for field in WORDS),
    Check(("timezone",), check_timezone),
    Check(("base", "keymap"), check_keymap),
    Check(("path", "output"), check_output),
    Check((), check_cache),
    Check(("base", "profile", "path", "output"), check_room),
    Check(("base", "profile"), check_size),
    Check(("base", "encrypt"), tools.check_tools),
    Check(("base",), check_mirror, is_first_step=True),
)


def find_refusals(table: Iterable[Check[Subject]], subject: Subject) -> Iterator[Refusal]:
    """Everything that stands against a plan."""
    for check in table:
        try:
            check.look(subject)
        except RamosError as error:
            yield Refusal(check.about, error)
        except OSError as error:  # a folder that may not even be looked into
            place = error.filename or "the image"
            yield Refusal(check.about, RefusedError("cannot build", place, error))


def refuse_early(plan: Plan) -> None:
    """What a build looks at before it takes the cache."""
    early = [check for check in CHECKS if not check.is_first_step]
    for refusal in find_refusals(early, plan):
        raise refusal.error
