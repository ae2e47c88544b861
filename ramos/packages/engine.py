"""Special packages on a running stick: check, add, upgrade, remove, list.

Owns: the order of things. Everything is fetched, verified, taken apart and built before the first
byte that counts is written (see `change`). Refuses: removing the last kernel, working without a
stick. Invariant: a cut at any point leaves a stick that boots the old state or the new one, and
`recover` (run before everything else) finishes or undoes what was under way.
"""

import contextlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ramos.boot import kernels
from ramos.errors import RefusedError, UsageError
from ramos.layout import kernel_version
from ramos.packages import change, journal, repository
from ramos.packages.build import Prepared, build, build_firmware, forget_left, read_left
from ramos.packages.change import Target, Work
from ramos.packages.recipe import drops_depend
from ramos.packages.site import Candidate, Installed, Site
from ramos.progress import OnProgress, Progress, tell_lines
from ramos.sizes import format_count, format_size
from ramos.store import images
from ramos.store.generations import read_all


@dataclass(frozen=True)
class Report:
    """What a change did."""

    packages: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    generation: int = 0
    removed_kernels: tuple[str, ...] = ()
    # The kernel that the next boots try.
    trial: str = ""


def list_special(site: Site) -> list[tuple[str, str, str, bool]]:
    """Installed special packages: name, version, recipe, and whether they came by the engine."""
    rows = []
    for name, installed in sorted(site.manager.list_installed(site).items()):
        recipe = site.find_recipe(name)
        if recipe is not None:
            rows.append((name, installed.version, recipe.name, installed.special))
    return rows


@dataclass(frozen=True)
class KernelState:
    """One kernel on the ESP, and what it is to the next boot."""

    name: str
    words: tuple[str, ...]


def list_kernels(site: Site) -> list[KernelState]:
    """The kernels that the boot menu offers, newest first."""
    with site.open_esp(False) as esp:
        env = journal.read_environment(esp)
        names = sorted(kernels.list_complete(esp), key=kernels.version_key, reverse=True)
    found, left = [], format_count(env.tries, "boot")
    for name in names:
        facts = {
            "running": name == site.running,
            "known to boot": name == env.good,
            f"on trial ({left} left)": name == env.trial and env.tries > 0,
            "given up: it did not come up": name == env.trial and env.tries == 0,
        }
        found.append(KernelState(name, tuple(word for word, holds in facts.items() if holds)))
    return found


def find_newer(site: Site, names: Collection[str] = ()) -> list[Target]:
    """What an upgrade of these, or of every special package, would bring, with what that needs."""
    installed = site.manager.list_installed(site)
    special = sorted(name for name in installed if site.find_recipe(name))
    absent = [name for name in names if name not in special]
    if absent:
        raise UsageError(
            "cannot upgrade",
            ", ".join(absent),
            "no special package of that name is installed",
            hint="'ramos pkg list' names those that are, 'ramos pkg add' installs another.",
        )
    return plan_targets(site, installed, names or special, only_newer=True)


def plan_targets(
    site: Site, installed: Mapping[str, Installed], names: Iterable[str], *, only_newer: bool
) -> list[Target]:
    """The packages to bring in, with the special ones among what they depend on."""
    wanted = list(names)
    found: dict[str, Target] = {}
    while wanted:
        candidates = site.manager.find_candidates(site, wanted)
        if not only_newer:
            _require_found([word for word in wanted if word not in installed], candidates)
        wanted = []
        for name, candidate in sorted(candidates.items()):
            recipe = site.find_recipe(name)
            there = installed[name].version if name in installed else ""
            newer = not there or site.manager.is_newer(candidate.version, there)
            if not only_newer and there and site.manager.is_newer(there, candidate.version):
                raise _cannot_downgrade(name, there, candidate.version)
            if (
                recipe is None
                or name in found
                or (not newer and (only_newer or installed[name].special))
            ):
                continue
            found[name] = Target(name, there, candidate, recipe)
            known = {name: there.version for name, there in installed.items()}
            known |= dict.fromkeys(found, "")
            kept = [d for d in candidate.depends if not drops_depend(recipe, d)]
            wanted += _find_special_depends(site, kept, known)
    return list(found.values())


def _require_found(wanted: Iterable[str], found: Mapping[str, Candidate]) -> None:
    missing = [word for word in wanted if word.partition("=")[0] not in found]
    if missing:
        raise RefusedError(
            "no such package",
            ", ".join(missing),
            "no mirror has it",
            hint="'ramos pkg check' refreshes the package lists.",
        )


def _cannot_downgrade(name: str, there: str, older: str) -> UsageError:
    reason = f"{there} is installed, and {older} is older"
    hint = "Every kernel that is kept can be started: see 'Older kernels' in the boot menu."
    return UsageError("cannot downgrade", name, reason, hint=hint)


def _find_special_depends(
    site: Site, depends: Iterable[str], known: Mapping[str, str]
) -> list[str]:
    """Special packages that one needs, as NAME or NAME=VERSION.

    `known` are the versions of those that are installed; empty for those that come anyway.
    """
    found = []
    for depend in depends:
        name, _, rest = depend.partition("|")[0].strip().partition(" ")
        name = name.partition(":")[0]
        exact = rest.removeprefix("(= ").rstrip(")") if rest.startswith("(= ") else ""
        if name in known and (not exact or known[name] in ("", exact)):
            continue
        if site.find_recipe(name) is not None:
            found.append(f"{name}={exact}" if exact else name)
    return found


@contextlib.contextmanager
def workplace(site: Site) -> Iterator[None]:
    """An empty directory of root's alone, made anew, for the length of the block.

    Its name is known and lies where anybody can make one: what has it goes, and is never used.
    """
    if site.work.is_symlink() or not site.work.is_dir():
        site.work.unlink(missing_ok=True)  # opening a pipe, as rmtree does, would wait for ever
    shutil.rmtree(site.work, ignore_errors=True)
    site.work.parent.mkdir(parents=True, exist_ok=True)
    try:
        site.work.mkdir(mode=0o700)
    except FileExistsError:
        reason = "something else has this name, and does not go"
        raise RefusedError("cannot work in", site.work, reason) from None
    try:
        yield
    finally:
        shutil.rmtree(site.work, ignore_errors=True)


def refresh(site: Site, on_progress: OnProgress) -> None:
    """Fetch the package lists."""
    step = "fetching the package lists"
    on_progress(Progress(step))
    site.manager.refresh(site, tell_lines(on_progress, step))


def add(site: Site, names: Sequence[str], on_progress: OnProgress) -> Report:
    """Install special packages."""
    for word in names:
        name = word.partition("=")[0]
        if site.find_recipe(name) is None:
            raise UsageError(
                "no recipe matches",
                name,
                "it is an ordinary package",
                hint="Install it with the package manager itself.",
            )
    installed = site.manager.list_installed(site)
    return bring(site, plan_targets(site, installed, names, only_newer=False), on_progress)


def bring(site: Site, targets: Sequence[Target], on_progress: OnProgress) -> Report:
    """Everything up to the point where nothing can go wrong any more, then the change itself."""
    if not targets:
        return Report()
    _require_memory_and_space(site, targets)
    staged = []
    for target in targets:
        step = f"fetching {target.name} {target.candidate.version}"
        on_progress(Progress(step))
        folder = site.work / "fetched" / target.name
        path = site.manager.fetch(site, target.candidate, folder, tell_lines(on_progress, step))
        staged.append(site.manager.stage(site, path, target.recipe))
        shutil.rmtree(folder)
    built = build(site, staged, on_progress)
    try:
        work = Work(targets, staged, built)
        done = change.make_change(site, work, on_progress)
    finally:
        for temporary in built.temporaries:
            temporary.unlink(missing_ok=True)
    made = done.journal
    trial = "".join(made.trial)
    return Report(made.packages, made.kernels, done.images, done.generation, trial=trial)


def _require_memory_and_space(site: Site, targets: Sequence[Target]) -> None:
    """Refuse early: RAM for what is unpacked, persist for what is packed again."""
    packed = sum(target.candidate.size_bytes for target in targets)
    unpacked = sum(target.candidate.installed_bytes for target in targets)
    there = shutil.disk_usage(site.work)
    free = there.free
    if free < unpacked + packed:
        hint = "Save, restart and try again before anything else uses the RAM."
        if there.total < unpacked + packed:
            hint = (
                "This machine has too little RAM for it: start the stick on a larger one for this."
            )
        raise RefusedError(
            "not enough memory",
            site.work,
            f"{format_size(unpacked + packed)} are needed to unpack, {format_size(free)} are free",
            hint=hint,
        )
    images.require_persist_space(site.persist, 2 * packed, images.RESERVE_BYTES)


def plan_removal(
    site: Site, names: Sequence[str], also: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """These special packages with those that need them or that nothing needs without them.

    And what is installed of `also`: ordinary packages that the user removes at the same time.
    """
    installed = site.manager.list_installed(site)
    absent = [name for name in names if name not in installed]
    if absent:
        raise UsageError("cannot remove", ", ".join(absent), "not installed")
    also = sorted(set(also) & set(installed))
    wanted = list(names)
    while True:
        plan = site.manager.plan_removal(site, [*wanted, *also])
        needing = [name for name in plan.needed_by if name not in (*wanted, *also)]
        ordinary = [name for name in needing if site.find_recipe(name) is None]
        if ordinary:
            reason = f"needed by {', '.join(ordinary)}"
            hint = "Remove that with the package manager first."
            raise UsageError("cannot remove", ", ".join(names), reason, hint=hint)
        if not needing:
            break
        wanted += needing
    special = [name for name in plan.going if site.find_recipe(name)]
    return list(dict.fromkeys([*wanted, *special])), also


def remove(
    site: Site, names: Sequence[str], on_progress: OnProgress, also: Collection[str] = ()
) -> Report:
    """Remove special packages, and what they had brought; `also`, ordinary ones."""
    names, also = plan_removal(site, names, also)
    with site.open_esp(True) as esp:
        doomed = _find_kernels_of(site, esp, names)
        kernels.check_removal(esp, doomed, journal.read_environment(esp), site.running)
        journal.end_trials(esp, doomed)
        _release(site, names)
        step = f"removing {', '.join(names)}"
        site.manager.remove(site, [*names, *also], tell_lines(on_progress, step))
        repository.delete_packages(site, names)
        _delete_kernels(site, esp, doomed)
    generation = _remove_firmware(site, names, on_progress)
    for name in names:
        forget_left(site, name)
    return Report(tuple(names), generation=generation, removed_kernels=tuple(doomed))


def _release(site: Site, names: Iterable[str]) -> None:
    for name in names:
        recipe = site.find_recipe(name)
        if recipe is not None:
            site.manager.release_files(site, name, recipe)


def _find_kernels_of(site: Site, esp: Path, names: Sequence[str]) -> list[str]:
    """The kernel directories that packages had brought."""
    owned = {version for name in names for version in read_left(site, name, "kernel")}
    owned |= set(site.manager.list_kernel_versions(site, names))
    return [name for name in kernels.list_all(esp) if kernel_version(name) in owned]


def _delete_kernels(site: Site, esp: Path, names: Iterable[str]) -> None:
    for name in names:
        kernels.delete_kernel(esp, name)
        images.delete_modules(site.persist, name, kernels.list_all(esp))


def _remove_firmware(site: Site, names: Sequence[str], on_progress: OnProgress) -> int:
    """A new firmware image without the files of these packages; its generation, or 0."""
    if not any(read_left(site, name, "firmware") for name in names):
        return 0
    temporary = build_firmware(site, {}, names, on_progress)
    return Prepared(temporary, (), {}, {}).publish_images(site, {})


def collect_kernels(site: Site, on_progress: OnProgress) -> tuple[str, ...]:
    """Delete kernels and firmware that are no longer needed, once a newer kernel is confirmed."""
    with site.open_esp(True) as esp:
        env = journal.read_environment(esp)
        old = kernels.plan_removal(kernels.list_complete(esp), env, site.running)
        if old:
            on_progress(Progress(f"removing old kernels: {', '.join(old)}"))
        _delete_kernels(site, esp, old)
    for path in images.list_unused(site.persist, read_all(site.persist)[0]):
        path.unlink()
    return tuple(old)
