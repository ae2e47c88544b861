"""From a root tree to the base images: rootfs, modules and firmware.

Owns: what is in which image, and how an image is made. Refuses: changing the tree that the cache
keeps (it works on a copy made of hard links). Invariant: the same tree and the same settings give
the same bytes.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RamosError
from ramos.image.plan import NoImageError
from ramos.linux import run
from ramos.linux.kmod import name_library
from ramos.linux.run import OnLine

TOOLS = ("mksquashfs", "chroot", "cp")
# Filled by the running system: nothing that the build left there may travel.
EMPTIED = ("dev", "proc", "sys", "run", "tmp", "boot", "var/tmp", "var/cache/apt")


@dataclass(frozen=True)
class Kernel:
    """The kernel of a tree."""

    version: str
    image: Path


def copy_tree(tree: Path, copy: Path) -> None:
    """A second tree of the same files: directories are copied, files are shared."""
    run.run(["cp", "-al", tree, copy])


def find_kernel(tree: Path) -> Kernel:
    """The one kernel of a fresh tree."""
    modules = tree / name_library(tree) / "modules"
    if not modules.is_dir():
        raise NoImageError("cannot use", tree, "it has no kernel modules")
    versions = sorted(path.name for path in modules.iterdir())
    if len(versions) != 1:
        found = ", ".join(versions) or "none"
        raise RamosError("cannot use", tree, f"it must hold one kernel, and holds {found}")
    version = versions[0]
    flavour = version.rpartition("-")[2]
    for name in (f"vmlinuz-{version}", f"vmlinuz-{flavour}"):
        image = tree / "boot" / name
        if image.is_file():
            return Kernel(version, image)
    raise RamosError("cannot use", tree, f"it has no kernel image for {version} in /boot")


def split_tree(root: Path, modules: Path, firmware: Path, kernel: Kernel) -> None:
    """Move modules and firmware out of the root tree, into trees of their own."""
    below = name_library(root)
    library = root / below
    for target in (modules, firmware):
        (target / below).mkdir(parents=True)
    source = library / "modules" / kernel.version
    (modules / below / "modules").mkdir()
    # Links to the headers of the build machine lead nowhere.
    for name in ("build", "source"):
        (source / name).unlink(missing_ok=True)
    source.rename(modules / below / "modules" / kernel.version)
    if (library / "firmware").is_dir():
        (library / "firmware").rename(firmware / below / "firmware")
    for path in (library / "firmware", firmware / below / "firmware"):
        path.mkdir(exist_ok=True)
    for name in EMPTIED:
        empty_directory(root / name)
    for name in ("vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"):
        (root / name).unlink(missing_ok=True)


def empty_directory(path: Path) -> None:
    """Remove what is in a directory, and keep the directory."""
    if not path.is_dir():
        return
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def plan_squash(tree: Path, output: Path, level: int) -> list[str]:
    """The mksquashfs command for one image."""
    argv = ["mksquashfs", str(tree), str(output), "-noappend", "-comp", "zstd"]
    argv += ["-Xcompression-level", str(level), "-xattrs", "-reproducible", "-no-recovery"]
    return [*argv, "-processors", str(os.cpu_count() or 1), "-progress"]


def make_squashfs(tree: Path, output: Path, level: int, epoch: int | None, on_line: OnLine) -> None:
    """Make one image; it has its name only when it is whole."""
    temporary = output.with_name(f"{output.name}.part")
    env = None if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)}
    try:
        run.run_watched(plan_squash(tree, temporary, level), on_line, env)
        temporary.rename(output)
    finally:
        temporary.unlink(missing_ok=True)
