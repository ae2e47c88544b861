"""From a plan to an image file: the steps, in order.

Owns: the order, what the cache keeps under which name, and clean-up. Refuses: doing a step itself.
Invariants: the output has its name only when it is whole; whatever happens, nothing is left behind
but the cache, and what is there under a cache name is whole.
"""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ramos.boot import initramfs
from ramos.errors import RamosError, RefusedError
from ramos.image import cache, common_setup, contents, partitions, payload, squash
from ramos.image.bases import BASES, settle_init
from ramos.image.checks import refuse_early
from ramos.image.contents import Parts
from ramos.image.plan import (
    Base,
    NoImageError,
    Plan,
    choose_size,
    describe_plan,
    make_key,
)
from ramos.image.steps import Steps
from ramos.linux import fs
from ramos.packages.build import find_microcode
from ramos.progress import OnProgress, Progress
from ramos.stick import luks
from ramos.store.generation import StoredFile

STEPS = (
    *("find the release", "root tree", "set up the system", "initramfs", "rootfs", "modules"),
    *("firmware", "checksums", "ESP", "persist", "encryption", "image"),
)
USER_SETTINGS = (
    *("user", "password_hash", "autologin", "hostname", "timezone", "keymap", "consoles", "init"),
)


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


def build_or_fall_back(plan: Plan, init: str, on_progress: OnProgress) -> tuple[Plan, Built]:
    """Build what `auto` has chosen; what stops Alpine (a mirror that has half of it) means Debian.

    It gets the init system that was asked for. Not where something was asked for that one base
    alone knows, or that no base would do.
    """
    try:
        return plan, build_image(plan, on_progress)
    except RefusedError:
        raise
    except RamosError as error:
        if plan.base != "alpine" or plan.release or plan.mirror or plan.keys:
            raise
        on_progress(Progress(f"base: debian (alpine: {error})", ended=True))
    other = settle_init(replace(plan, base="debian", init=init))
    return other, build_image(other, on_progress)


def build_image(plan: Plan, on_progress: OnProgress) -> Built:
    """Make an image; an error leaves no half-made file under the output's name."""
    refuse_early(plan)
    steps = Steps(on_progress)
    try:
        with cache.lock_cache(plan.cache, steps) as work:
            return _build(plan, work, steps)
    except OSError as error:
        name = error.filename or plan.output
        raise NoImageError("cannot build", name, error) from error
    except RamosError as error:
        if plan.base == "alpine":
            error.hint = f"{error.hint} Debian is the other base: --base debian.".lstrip()
        raise


def _build(plan: Plan, work: Path, steps: Steps) -> Built:
    base = BASES[plan.base]
    with steps.step("find the release"):
        source = base.resolve(plan)
    tree, tree_id = cache.provide_tree(plan, source, base, work, steps)
    parts = provide_parts(plan, tree, tree_id, base, work, steps)
    cache.prune_cache(plan.cache)
    size_bytes = assemble_image(plan, parts, work, steps)
    return Built(
        plan.output,
        size_bytes,
        plan.output.stat().st_blocks * 512,
        parts.kernel,
        source.release,
        source.mirror,
        tuple(steps.reused),
        steps.seconds,
    )


def provide_parts(
    plan: Plan, tree: Path, tree_id: str, base: Base, work: Path, steps: Steps
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
        find_microcode(plan.base, tree),
    )
    wanted = {
        "initramfs": parts.initramfs,
        "rootfs": parts.rootfs,
        "modules": parts.modules,
        "firmware": parts.firmware,
    }
    for name, path in wanted.items():
        if path.exists():
            steps.reuse(name)
            os.utime(path)
    missing = {name: path for name, path in wanted.items() if not path.exists()}
    if missing:
        make_parts(plan, tree, base, work, missing, steps)
    return parts


def make_parts(
    plan: Plan,
    tree: Path,
    base: Base,
    work: Path,
    missing: Mapping[str, Path],
    steps: Steps,
) -> None:
    """Make those parts that the cache does not have, from a copy of the tree."""
    root = work / "rootfs"
    with steps.step("set up the system"):
        squash.copy_tree(tree, root)
        common_setup.apply_settings(plan, root)
        base.configure(plan, root)
        payload.install_payload(plan, root)
        kernel = squash.find_kernel(root)
    if "initramfs" in missing:
        with steps.step("initramfs"):
            output = work / "initramfs"
            initramfs.build_initramfs(root, kernel.version, output, source_date_epoch=plan.epoch)
            front = b"".join(find_microcode(plan.base, tree).values())
            output.write_bytes(front + output.read_bytes())
            output.rename(missing["initramfs"])
    squash.split_tree(root, work / "modules", work / "firmware", kernel)
    for name in ("rootfs", "modules", "firmware"):
        if name in missing:
            with steps.step(name) as on_line:
                squash.make_squashfs(
                    work / name, missing[name], plan.compression_level, plan.epoch, on_line
                )


def assemble_image(plan: Plan, parts: Parts, work: Path, steps: Steps) -> int:
    """Put the image together under a temporary name, then give it its own; returns its size."""
    epoch = int(time.time()) if plan.epoch is None else plan.epoch
    with steps.step("checksums"):
        files = contents.describe_base(parts)
    identity = partitions.make_identity("" if plan.epoch is None else _make_seed(plan, files))
    size = choose_size(plan, sum(file.size_bytes for file in files))
    table = partitions.DiskLayout(size)
    esp, persist, content = work / "esp.fat", work / "persist.ext4", work / "persist"
    with steps.step("ESP"):
        names, bios = contents.fill_esp(plan, parts, identity, work)
        partitions.make_esp(esp, table.esp_bytes, names, identity.esp_serial, epoch)
    with steps.step("persist"):
        contents.fill_persist(plan, parts, files, identity, content, epoch)
        room = table.persist_bytes - (luks.HEADER_BYTES if plan.encrypt else 0)
        partitions.make_persist(persist, room, content, identity, epoch, plan.swap_bytes)
    if plan.encrypt:
        with steps.step("encryption"):
            partitions.encrypt_persist(persist, plan.passphrase, plan.unlock_memory_mib, identity)
    temporary = plan.output.with_name(f"{plan.output.name}.part")
    with steps.step("image"):
        try:
            partitions.assemble(
                temporary, table, partitions.DiskParts(esp, persist, bios), identity
            )
            fs.publish(temporary, plan.output)
        finally:
            temporary.unlink(missing_ok=True)
    return size


def _make_seed(plan: Plan, files: Iterable[StoredFile]) -> str:
    """What identifies a stick that is to be the same each time it is built."""
    return make_key({"epoch": plan.epoch, "size": plan.size_bytes, "files": tuple(files)})
