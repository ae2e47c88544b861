"""What a build refuses before its long steps: one table for the build, `--plan` and the wizard.

Owns: the checks, and which question of the wizard each is about. Refuses: changing anything.
Invariant: what can be known before a root tree is made is known here; the steps themselves find
what only the mirror's packages or the finished tree can tell (a package that nobody has).
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ramos.errors import RamosError, RefusedError
from ramos.image import cache, grub, partitions, squash
from ramos.image.bases import BASES
from ramos.image.plan import Plan, check_plan, unknown_keymap, unknown_timezone
from ramos.linux import run
from ramos.sizes import MIB, format_size

# Less than any image takes, and than its parts take in the cache.
LEAST_OUTPUT_BYTES = 80 * MIB
LEAST_CACHE_BYTES = 512 * MIB
# What this machine knows of time zones and keyboards, where it knows any.
ZONES = Path("/usr/share/zoneinfo")
LAYOUTS = Path("/usr/share/X11/xkb/symbols")


@dataclass(frozen=True)
class Check:
    """One thing that is looked at. `question` is the option that its answer came from."""

    question: str
    look: Callable[[Plan], None]
    # The first step of a build is the same look, at the same time.
    is_first_step: bool = False


@dataclass(frozen=True)
class Refusal:
    """Why a plan cannot be carried out, and which question to ask again."""

    question: str
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


def check_tools(plan: Plan) -> None:
    """Name every program that is missing, before anything is fetched."""
    missing = run.find_missing(
        (*BASES[plan.base].TOOLS, *partitions.TOOLS, *squash.TOOLS, *grub.TOOLS)
    )
    missing += run.find_missing(["cryptsetup"]) if plan.encrypt else []
    missing += grub.list_missing_platforms()
    if missing:
        raise RefusedError(
            "cannot build",
            ", ".join(missing),
            "missing on this machine",
            hint="On Debian, ./build-image.sh installs what is missing when it runs as root.",
        )


def check_room(plan: Plan) -> None:
    """Refuse a disk on which no image fits, and a cache in which no root tree does."""
    for place, least in ((plan.output.parent, LEAST_OUTPUT_BYTES), (plan.cache, LEAST_CACHE_BYTES)):
        there = next(path for path in (place, *place.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < least:
            raise RefusedError(
                "cannot build",
                place,
                f"{format_size(free)} are free there, and {format_size(least)} is the least",
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


CHECKS = (
    Check("", check_plan),
    Check("output", check_output),
    Check("output", check_room),
    Check("base", check_tools),
    Check("timezone", check_timezone),
    Check("keymap", check_keymap),
    Check("base", check_mirror, is_first_step=True),
)


def find_refusals(plan: Plan) -> Iterator[Refusal]:
    """Everything that stands against a plan."""
    for check in CHECKS:
        try:
            check.look(plan)
        except RamosError as error:
            yield Refusal(check.question, error)


def refuse_early(plan: Plan) -> None:
    """What a build looks at before it takes the cache."""
    for check in CHECKS:
        if not check.is_first_step:
            check.look(plan)


def check_answer(question: str, plan: Plan) -> None:
    """What can be said of one answer alone."""
    check_plan(plan)
    for check in CHECKS:
        if check.question == question:
            check.look(plan)
