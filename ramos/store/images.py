"""Base images on persist: their names, who names them, and which are no longer needed.

Owns: publishing modules and firmware that packages bring, finding what is in use, and deleting the
rest. Refuses: replacing an image that a generation names, or that is mounted. Invariant: a changed
firmware image gets a new name, and a new generation names it: going back to an older generation
brings the older firmware back.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ramos import layout
from ramos.errors import RamosError, RefusedError
from ramos.layout import kernel_version
from ramos.linux.fs import (
    TEMPORARY_SUFFIX,
    crash_point,
    hash_file,
    publish,
    sync_directory,
)
from ramos.linux.verity import digest_file, enable_verity, measure_verity
from ramos.sizes import format_size
from ramos.store.generation import PATH_PATTERN, Generation, Kind, StoredFile
from ramos.store.generations import next_number, publish_generation, read_default

RESERVE_BYTES = 64 << 20
FIRMWARE_NAME = re.compile(r"firmware-[0-9a-f]{12}\.squashfs")
REASON = "packages"


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


def require_persist_space(persist: Path, needed_bytes: int, reserve_bytes: int) -> None:
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
