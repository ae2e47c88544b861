"""From what left packages to images: trees of modules and of firmware, packed and read back.

Owns: how these trees are laid out, and making a squashfs of one under a temporary name. Refuses:
giving an image its name (store/images does). Invariant: an image that `pack_image` leaves behind
is durable and was read back from the stick.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from ramos.errors import DamagedError
from ramos.linux.fs import hash_file, sync_file
from ramos.linux.run import run
from ramos.linux.squashfs import run_squashfs

COMPRESSION_LEVEL = 3
MEMORY_MIB = 96
IMAGE_RESERVE_BYTES = 1 << 20


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


def pack_image(tree: Path, temporary: Path) -> None:
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
