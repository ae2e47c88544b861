"""Base images that packages change on a running stick: modules of a kernel, and firmware.

Owns: making these images from trees, and their place on persist. Refuses: replacing an image that
a generation names, or that is mounted. Invariants: an image has its name only when it was durable
and was read back from the stick; a changed firmware image gets a new name, and a new generation
names it: going back to an older generation brings the older firmware back.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ramos import layout
from ramos.errors import DamagedError, RamosError, RefusedError
from ramos.layout import kernel_version
from ramos.linux.fs import (
    TEMPORARY_SUFFIX,
    crash_point,
    hash_file,
    publish,
    sync_directory,
    sync_file,
)
from ramos.linux.run import run
from ramos.linux.squashfs import run_squashfs
from ramos.linux.verity import digest_file, enable_verity, measure_verity
from ramos.sizes import format_size
from ramos.store.generation import PATH_PATTERN, Generation, Kind, StoredFile
from ramos.store.generations import next_number, publish_generation, read_default

COMPRESSION_LEVEL = 3
MEMORY_MIB = 96
RESERVE_BYTES = 64 << 20
IMAGE_RESERVE_BYTES = 1 << 20
FIRMWARE_NAME = re.compile(r"firmware-[0-9a-f]{12}\.squashfs")
REASON = "packages"


def find_library(root: Path) -> str:
    """Where a system keeps modules and firmware: usr/lib where /lib is a link to it."""
    return "usr/lib" if (root / "lib").is_symlink() else "lib"


def arrange_modules(sources: Iterable[Path], tree: Path, library: str) -> None:
    """Lay out module directories as the running system has them, and index what is not indexed."""
    folder = tree / library / "modules"
    folder.mkdir(parents=True)
    for source in sources:
        target = folder / source.name
        source.rename(target)
        for name in ("build", "source", "vmlinuz"):
            link = target / name
            if link.is_symlink():
                link.unlink()
        # depmod looks for lib/modules below its base.
        run(["depmod", "-b", (tree / library).parent, source.name])


def write_image(tree: Path, temporary: Path) -> None:
    """Make a squashfs of a tree under a temporary name on persist, and read it back."""
    argv: list[str | Path] = ["mksquashfs", tree, temporary, "-noappend", "-comp", "zstd"]
    argv += ["-Xcompression-level", str(COMPRESSION_LEVEL), "-no-progress", "-no-recovery"]
    argv += ["-quiet", "-all-root", "-mem", f"{MEMORY_MIB}M"]
    argv += ["-processors", str(min(2, os.cpu_count() or 1))]
    space = os.statvfs(temporary.parent)
    room = max(0, space.f_bavail * space.f_frsize - IMAGE_RESERVE_BYTES)
    try:
        run_squashfs(argv, temporary, room, env={"SOURCE_DATE_EPOCH": "0"})
        expected = hash_file(temporary)
        sync_file(temporary)
        if hash_file(temporary, direct=True) != expected:
            reason = "the stick gave back other bytes than were written"
            raise DamagedError("cannot make image", temporary.name, reason)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def publish_modules(persist: Path, name: str, temporary: Path) -> StoredFile:
    """Give a finished modules image the name of its kernel's directory."""
    return _publish_image(persist, "modules", layout.modules_image(name), temporary)


def find_modules(persist: Path, name: str) -> Path:
    """The modules of the kernel in a directory, as init finds them."""
    own = persist / layout.modules_image(name)
    return own if own.is_file() else persist / layout.modules_image(kernel_version(name))


def publish_firmware(persist: Path, temporary: Path) -> StoredFile:
    """Give a finished firmware image the name of its content."""
    return _publish_image(persist, "firmware", firmware_name(temporary), temporary)


def firmware_name(image: Path) -> str:
    """The name of a firmware image: that of its content."""
    return f"firmware-{hash_file(image)[:12]}.squashfs"


def _publish_image(persist: Path, kind: Kind, name: str, temporary: Path) -> StoredFile:
    digests = digest_file(temporary)
    crash_point(f"image-{kind}")
    publish(temporary, persist / name)
    with contextlib.suppress(RamosError):  # without fs-verity the sha256 still tells
        enable_verity(persist / name)
    return StoredFile(kind, name, digests.size_bytes, digests.sha256, digests.verity)


def publish_base(persist: Path, changed: Sequence[StoredFile], message: str) -> Generation | None:
    """A generation like the default, but with other base images; None where there is no default."""
    default = read_default(persist)
    if default is None:
        return None
    paths = {file.path for file in changed}
    replaced = {"firmware"} & {file.kind for file in changed}
    kept = [f for f in default.base if f.path not in paths and f.kind not in replaced]
    base = sorted(
        [*kept, *changed], key=lambda file: ("rootfs", "modules", "firmware").index(file.kind)
    )
    generation = replace(
        default,
        number=next_number(persist),
        parent=default.number,
        created=int(time.time()),
        reason=REASON,
        message=message,
        files=(*base, *default.saved),
    )
    publish_generation(persist, generation)
    return generation


def merge_firmware(
    old: Path | None, removed: Iterable[str], sources: Iterable[Path], tree: Path, library: str
) -> None:
    """All firmware as one tree: what there was, without what is gone, under what is new.

    `old` is the image in use; `removed` names are relative to lib/firmware.
    """
    if old is not None:
        run(["unsquashfs", "-no-progress", "-quiet", "-d", tree, old])
    folder = tree / library / "firmware"
    folder.mkdir(parents=True, exist_ok=True)
    for name in removed:
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    for source in sources:
        run(["cp", "-a", "--remove-destination", f"{source}/.", folder])


def delete_modules(persist: Path, name: str, remaining: Iterable[str]) -> None:
    """Delete the modules of a kernel that is gone, unless one that remains needs them."""
    image = persist / layout.modules_image(name)
    if image not in {find_modules(persist, other) for other in remaining}:
        image.unlink(missing_ok=True)
        sync_directory(persist)


def list_unused(persist: Path, generations: Iterable[Generation]) -> list[Path]:
    """Firmware images that no generation names."""
    named = {file.path for generation in generations for file in generation.files}
    found = (path for path in persist.iterdir() if FIRMWARE_NAME.fullmatch(path.name))
    return sorted(path for path in found if path.name not in named)


def sweep_temporaries(persist: Path) -> None:
    """Remove what an interrupted operation left at the top of persist; nothing names it."""
    for path in persist.glob(f"*.squashfs{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def require_space(persist: Path, needed_bytes: int, reserve_bytes: int) -> None:
    """Refuse before anything is written."""
    free = shutil.disk_usage(persist).free - reserve_bytes
    if free < needed_bytes:
        usable = format_size(max(0, free))
        raise RefusedError(
            "not enough space on persist",
            persist,
            f"about {format_size(needed_bytes)} are needed, {usable} can be used",
            hint="Prune old generations (ramos prune), or remove a kernel that you do not need.",
        )


def find_base_images(persist: Path, known: Generation | None) -> tuple[StoredFile, ...]:
    """The base images on persist; those that are not known by path and size are read and hashed.

    A file whose name no generation can hold, a copy that somebody made, is none.
    """
    before = {file.path: file for file in known.base} if known else {}
    found: list[StoredFile] = []
    patterns: tuple[tuple[Kind, str], ...] = (
        ("rootfs", layout.ROOTFS_IMAGE),
        ("modules", layout.modules_image("*")),
        ("firmware", find_firmware(persist, known)),
    )
    for kind, pattern in patterns:
        for path in sorted(persist.glob(pattern)):
            if PATH_PATTERN.fullmatch(path.name) is None or not path.is_file():
                continue
            found.append(_describe_image(path, kind, before.get(path.name)))
    return tuple(found)


def find_firmware(persist: Path, known: Generation | None) -> str:
    """The firmware image in use: packages that bring firmware make one under a new name."""
    named = [file.path for file in known.base if file.kind == "firmware"] if known else []
    return next((name for name in named if (persist / name).is_file()), layout.FIRMWARE_IMAGE)


def _describe_image(path: Path, kind: Kind, before: StoredFile | None) -> StoredFile:
    sealed = measure_verity(path)
    if (
        before is not None
        and before.size_bytes == path.stat().st_size
        and sealed in ("", before.verity)
    ):
        return before
    digests = digest_file(path)
    return StoredFile(kind, path.name, digests.size_bytes, digests.sha256, digests.verity)
