"""From a plan to an image file: the steps, in order.

Owns: the order, what the cache keeps under which name, and clean-up. Refuses: doing a step itself.
Invariants: the output has its name only when it is whole; whatever happens, nothing is left behind
but the cache, and what is there under a cache name is whole.

The cache:
    lock                      one build at a time
    <base>/                   downloaded packages
    trees/<inputs>/tree       a root tree as its package manager left it; `state`: of which mirror
    images/<kind>-<inputs>    squashfs images and initramfs
    work-*                    the build that is running
"""

import contextlib
import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from ramos import fs, run
from ramos.errors import LockedError, RamosError
from ramos.generation import StoredFile
from ramos.image import contents, debian, disk, grub, payload, settings, squash
from ramos.image.contents import Parts
from ramos.image.plan import Plan, Source, check_plan, choose_size, describe_plan, make_key

# In the order in which `auto` prefers them.
BASES: dict[str, ModuleType] = {"debian": debian}
KEPT_IMAGES = 16
KEPT_TREES = 6
WAIT_SECONDS = 3600
USER_SETTINGS = ("user", "password_hash", "hostname", "timezone", "keymap", "consoles", "init")


@dataclass(frozen=True)
class Event:
    """What a build tells whoever watches it.

    `kind` is step (one begins), reused, done (it ended, after `seconds`), line or note.
    """

    kind: str
    text: str
    seconds: float = 0


Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Built:
    """What came out."""

    output: Path
    size_bytes: int
    used_bytes: int
    kernel: str
    release: str
    mirror: str
    reused: tuple[str, ...]
    seconds: dict[str, float]


class Progress:
    """Times the steps and tells the listener."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.seconds: dict[str, float] = {}
        self.reused: list[str] = []

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """One named step; what it yields takes lines of output."""
        self.listener(Event("step", name))
        start = time.monotonic()
        yield lambda line: self.listener(Event("line", line))
        self.seconds[name] = round(time.monotonic() - start, 2)
        self.listener(Event("done", name, self.seconds[name]))

    def reuse(self, name: str) -> None:
        """A step that need not be done again."""
        self.reused.append(name)
        self.listener(Event("reused", name))

    def note(self, text: str) -> None:
        """Something the user should know."""
        self.listener(Event("note", text))


def choose_base(plan: Plan) -> tuple[Plan, str]:
    """Settle `auto`: the first base whose mirror answers; and say why."""
    if plan.base != "auto":
        return plan, f"base: {plan.base}"
    reasons: list[str] = []
    for name, base in BASES.items():
        reason = base.probe(replace(plan, base=name))
        if not reason:
            because = "; ".join(reasons) or "its mirror answers"
            return replace(plan, base=name), f"base: {name} ({because})"
        reasons.append(f"{name}: {reason}")
    raise RamosError(
        "cannot choose a base",
        "auto",
        "; ".join(reasons),
        "Nothing was built",
        "Check the network, or name a mirror with --mirror.",
    )


def build_image(plan: Plan, listener: Listener) -> Built:
    """Make an image; an error leaves no half-made file under the output's name."""
    check_plan(plan)
    check_output(plan.output)
    check_tools(plan)
    progress = Progress(listener)
    try:
        with lock_cache(plan.cache, progress) as work:
            return _build(plan, work, progress)
    except OSError as error:
        name = error.filename or plan.output
        raise RamosError(
            "cannot build", name, error.strerror or error, "No image was written"
        ) from error


def _build(plan: Plan, work: Path, progress: Progress) -> Built:
    base = BASES[plan.base]
    with progress.step("find the release"):
        source: Source = base.resolve(plan)
    tree, tree_id = provide_tree(plan, source, base, work, progress)
    parts = provide_parts(plan, tree, tree_id, base, work, progress)
    prune_cache(plan.cache)
    size_bytes = write_image(plan, parts, work, progress)
    return Built(
        plan.output,
        size_bytes,
        plan.output.stat().st_blocks * 512,
        parts.kernel,
        source.release,
        source.mirror,
        tuple(progress.reused),
        progress.seconds,
    )


def check_output(output: Path) -> None:
    """Refuse a place where no image file can be."""
    reason, hint = "", "Give --output the name of a file."
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
        raise RamosError("cannot write image", output, reason, "Nothing was done", hint)


def check_tools(plan: Plan) -> None:
    """Name every program that is missing, before anything is fetched."""
    base = BASES[plan.base]
    missing = run.find_missing((*base.TOOLS, *disk.TOOLS, *squash.TOOLS, *grub.TOOLS))
    missing += grub.list_missing_platforms()
    if missing:
        raise RamosError(
            "cannot build",
            ", ".join(missing),
            "missing on this machine",
            "Nothing was done",
            "On Debian, ./build-image.sh installs what is missing when it runs as root.",
        )


@contextlib.contextmanager
def lock_cache(cache: Path, progress: Progress) -> Iterator[Path]:
    """Hold the cache; yields an empty directory for this build, which goes away with it."""
    cache.mkdir(parents=True, exist_ok=True)
    lock, purpose = cache / "lock", "building an image"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(fs.hold_lock(lock, purpose))
        except LockedError:
            progress.note(f"another build uses {cache}: waiting for it to end")
            stack.enter_context(fs.hold_lock(lock, purpose, WAIT_SECONDS))
        for stale in cache.glob("work-*"):
            shutil.rmtree(stale, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix="work-", dir=cache))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        yield work


def provide_tree(
    plan: Plan, source: Source, base: ModuleType, work: Path, progress: Progress
) -> tuple[Path, str]:
    """The root tree of the base: from the cache while the mirror has nothing newer."""
    inputs = make_key(
        {
            "base": plan.base,
            "recipe": base.RECIPE_VERSION,
            "packages": base.list_packages(plan),
            "profile": plan.profile,
            "kernel": plan.kernel,
            "config": source.config,
        }
    )
    place = plan.cache / "trees" / inputs
    state_file = place / "state"
    old_state = state_file.read_text(encoding="ascii") if state_file.exists() else ""
    if old_state and not source.state:
        progress.note(f"{source.mirror} does not answer: using the root tree made before")
    if old_state and source.state in ("", old_state):
        progress.reuse("root tree")
        os.utime(place)
        return place / "tree", make_key({"inputs": inputs, "state": old_state})
    if not source.state:
        raise RamosError(
            "mirror does not answer",
            source.mirror,
            f"its index of {source.release} could not be read",
            "Nothing was built",
            "Check the network, or name another mirror with --mirror.",
        )
    downloads = plan.cache / plan.base
    downloads.mkdir(exist_ok=True)
    fresh = work / "place"
    fresh.mkdir()
    with progress.step("root tree") as on_line:
        base.bootstrap(plan, source, fresh / "tree", downloads, on_line)
    (fresh / "state").write_text(source.state, encoding="ascii")
    place.parent.mkdir(exist_ok=True)
    if place.exists():
        place.rename(work / "old")
    fresh.rename(place)
    return place / "tree", make_key({"inputs": inputs, "state": source.state})


def provide_parts(
    plan: Plan, tree: Path, tree_id: str, base: ModuleType, work: Path, progress: Progress
) -> Parts:
    """Kernel, initramfs and base images: from the cache where nothing that makes them changed."""
    kernel = squash.find_kernel(tree)
    images = plan.cache / "images"
    images.mkdir(exist_ok=True)
    common = {"tree": tree_id, "epoch": plan.epoch, "level": plan.compression_level}
    chosen = {name: value for name, value in describe_plan(plan).items() if name in USER_SETTINGS}
    chosen["password_hash"] = plan.password_hash
    mine = make_key({**common, **chosen, "payload": payload.digest_payload()})
    shared = make_key(common)
    parts = Parts(
        kernel.version,
        kernel.image,
        images / f"initramfs-{mine}",
        images / f"rootfs-{mine}.squashfs",
        images / f"modules-{shared}.squashfs",
        images / f"firmware-{shared}.squashfs",
    )
    wanted = {
        "initramfs": parts.initramfs,
        "rootfs": parts.rootfs,
        "modules": parts.modules,
        "firmware": parts.firmware,
    }
    for name, path in wanted.items():
        if path.exists():
            progress.reuse(name)
            os.utime(path)
    missing = {name: path for name, path in wanted.items() if not path.exists()}
    if missing:
        make_parts(plan, tree, base, work, missing, progress)
    return parts


def make_parts(
    plan: Plan,
    tree: Path,
    base: ModuleType,
    work: Path,
    missing: Mapping[str, Path],
    progress: Progress,
) -> None:
    """Make those parts that the cache does not have, from a copy of the tree."""
    root = work / "rootfs"
    with progress.step("set up the system"):
        squash.copy_tree(tree, root)
        settings.apply_settings(plan, root)
        base.configure(plan, root)
        payload.install_payload(plan, root)
        kernel = squash.find_kernel(root)
    if "initramfs" in missing:
        with progress.step("initramfs"):
            output = work / "initramfs"
            importlib.import_module("ramos.initramfs").build_initramfs(
                root, kernel.version, output, source_date_epoch=plan.epoch
            )
            output.rename(missing["initramfs"])
    squash.split_tree(root, work / "modules", work / "firmware", kernel)
    for name in ("rootfs", "modules", "firmware"):
        if name in missing:
            with progress.step(name) as on_line:
                squash.make_squashfs(
                    work / name, missing[name], plan.compression_level, plan.epoch, on_line
                )


def write_image(plan: Plan, parts: Parts, work: Path, progress: Progress) -> int:
    """Put the image together under a temporary name, then give it its own; returns its size."""
    epoch = int(time.time()) if plan.epoch is None else plan.epoch
    with progress.step("checksums"):
        files = contents.describe_base(parts)
    identity = disk.make_identity("" if plan.epoch is None else _make_seed(plan, files))
    size = choose_size(plan, sum(file.size_bytes for file in files))
    table = disk.DiskLayout(size)
    esp, persist, content = work / "esp.fat", work / "persist.ext4", work / "persist"
    with progress.step("ESP"):
        names, bios = contents.fill_esp(plan, parts, identity, work)
        disk.make_esp(esp, table.esp_bytes, names, identity.esp_serial, epoch)
    with progress.step("persist"):
        contents.fill_persist(plan, parts, files, identity, content, epoch)
        disk.make_persist(persist, table.persist_bytes, content, identity, epoch, plan.swap_bytes)
    temporary = plan.output.with_name(f"{plan.output.name}.part")
    with progress.step("image"):
        try:
            disk.assemble(temporary, table, disk.DiskParts(esp, persist, bios), identity)
            fs.publish(temporary, plan.output)
        finally:
            temporary.unlink(missing_ok=True)
    return size


def _make_seed(plan: Plan, files: Iterable[StoredFile]) -> str:
    """What identifies a stick that is to be the same each time it is built."""
    return make_key({"epoch": plan.epoch, "size": plan.size_bytes, "files": tuple(files)})


def prune_cache(cache: Path) -> None:
    """Forget what was not used for the longest time."""
    for folder, kept in (("trees", KEPT_TREES), ("images", KEPT_IMAGES)):
        entries = sorted((cache / folder).iterdir(), key=lambda path: path.stat().st_mtime)
        for path in entries[:-kept]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
