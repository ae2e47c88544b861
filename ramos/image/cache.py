"""What is kept between builds.

Owns: the folder of the cache, its lock, the root trees in it, and forgetting. Refuses: knowing
what a tree is made of. Invariants: one build at a time; what has its name in the cache is whole.

    lock                      one build at a time
    <base>/                   downloaded packages
    trees/<inputs>/tree       a root tree as its package manager left it; `state`: of which mirror
    images/<kind>-<inputs>    squashfs images and initramfs
    work-*                    the build that is running
    device.img                what it is about to write to a disk
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import LockedError, RamosError
from ramos.image.plan import Base, NoImageError, Origin, Plan, make_key
from ramos.image.steps import Steps
from ramos.linux import fs

# What lies in the cache, by its folder; a base's own folder holds packages.
KINDS = {"trees": "root tree", "images": "image", "alpine": "packages", "debian": "packages"}
WORK = "work-"
DEVICE_IMAGE = "device.img"
KEPT_IMAGES = 16
KEPT_TREES = 6
WAIT_SECONDS = 3600
SECTOR_BYTES = 512  # of st_blocks


@dataclass(frozen=True)
class Kept:
    """One thing that a build can use again."""

    kind: str
    path: str
    size_bytes: int
    used_at: float


@contextlib.contextmanager
def lock_cache(cache: Path, steps: Steps) -> Iterator[Path]:
    """Hold the cache; yields an empty directory for this build, which goes away with it."""
    cache.mkdir(parents=True, exist_ok=True)
    cache.chmod(0o700)  # the trees and images in it have password hashes
    lock, purpose = cache / "lock", "building an image"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(fs.hold_lock(lock, purpose))
        except LockedError:
            steps.note(f"another build uses {cache}: waiting for it to end")
            stack.enter_context(fs.hold_lock(lock, purpose, WAIT_SECONDS))
        for stale in cache.glob(f"{WORK}*"):
            shutil.rmtree(stale, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=WORK, dir=cache))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        yield work


def provide_tree(
    plan: Plan, source: Origin, base: Base, work: Path, steps: Steps
) -> tuple[Path, str]:
    """The root tree of the base: from the cache while the mirror has nothing newer."""
    inputs = _name_inputs(plan, source, base)
    place = plan.cache / "trees" / inputs
    state_file = place / "state"
    old_state = state_file.read_text(encoding="ascii") if state_file.exists() else ""
    if old_state and not source.state:
        steps.note(f"{source.mirror} does not answer: using the root tree made before")
    if old_state and source.state in ("", old_state):
        steps.reuse("root tree")
        os.utime(place)
        return place / "tree", make_key({"inputs": inputs, "state": old_state})
    if not source.state:
        raise no_answer(source)
    downloads = plan.cache / plan.base
    downloads.mkdir(exist_ok=True)
    fresh = work / "place"
    fresh.mkdir()
    with steps.step("root tree") as on_line:
        base.bootstrap(plan, source, fresh / "tree", downloads, on_line)
    (fresh / "state").write_text(source.state, encoding="ascii")
    place.parent.mkdir(exist_ok=True)
    if place.exists():
        place.rename(work / "old")
    fresh.rename(place)
    return place / "tree", make_key({"inputs": inputs, "state": source.state})


def _name_inputs(plan: Plan, source: Origin, base: Base) -> str:
    """A name for all that decides what is in a tree, but for the state of the mirror."""
    return make_key(
        {
            "base": plan.base,
            "recipe": base.RECIPE_VERSION,
            "packages": base.list_packages(plan),
            "profile": plan.profile,
            "kernel": plan.kernel,
            "config": source.config,
        }
    )


def has_tree(plan: Plan, source: Origin, base: Base) -> bool:
    """Whether an earlier build left the root tree that this one wants."""
    return (plan.cache / "trees" / _name_inputs(plan, source, base) / "state").exists()


def has_any_tree(cache: Path) -> bool:
    """Whether an earlier build left a root tree: most likely the next one needs no other."""
    return any((cache / "trees").glob("*/state"))


def no_answer(source: Origin) -> RamosError:
    """The error where neither the mirror nor an earlier build has a root tree."""
    return NoImageError(
        "mirror does not answer",
        source.mirror,
        f"its index of {source.release} could not be read",
        hint="Check the network, or name another mirror with --mirror.",
    )


def prune_cache(cache: Path) -> None:
    """Forget what was not used for the longest time."""
    for folder, kept in (("trees", KEPT_TREES), ("images", KEPT_IMAGES)):
        entries = sorted((cache / folder).iterdir(), key=lambda path: path.stat().st_mtime)
        for path in entries[:-kept]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def list_kept(cache: Path) -> list[Kept]:
    """What is kept, what was used last first; the packages of a base are one thing.

    Unfinished is what a build works on now, or what one left that was killed.
    """
    places = [("unfinished", path) for path in (*cache.glob(f"{WORK}*"), cache / DEVICE_IMAGE)]
    for folder, kind in KINDS.items():
        top = cache / folder
        names = [] if not top.is_dir() else [top] if kind == "packages" else [*top.iterdir()]
        places += [(kind, path) for path in names]
    found = []
    for kind, path in places:
        with contextlib.suppress(FileNotFoundError):  # a build has ended meanwhile
            used_at = path.stat().st_mtime
            found.append(Kept(kind, str(path.relative_to(cache)), _measure(path), used_at))
    return sorted(found, key=lambda kept: -kept.used_at)


def _measure(path: Path) -> int:
    """The bytes that a file, or all in a directory, takes on its disk."""
    total = path.lstat().st_blocks * SECTOR_BYTES
    if path.is_dir() and not path.is_symlink():
        total += sum(_measure(entry) for entry in path.iterdir())
    return total


def empty_cache(cache: Path, steps: Steps) -> None:
    """Forget everything: the next build fetches and makes it anew."""
    if not cache.is_dir():
        return
    with lock_cache(cache, steps):
        for folder in KINDS:
            shutil.rmtree(cache / folder, ignore_errors=True)
        (cache / DEVICE_IMAGE).unlink(missing_ok=True)
