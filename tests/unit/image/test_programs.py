"""Every program that runs on a stick is in the packages of an Alpine image."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

from ramos.boot import initramfs
from ramos.image import payload
from ramos.image.plan import read_package_list
from tests.conftest import REPOSITORY

CALLS = {"run", "run_watched", "started"}
# Modules of the build machine, of virtual machines, and of Debian.
ELSEWHERE = ("image/", "cli/image.py", "cli/vm.py", "vm", "packages/debian", "formats/deb")
# Of systemd and dpkg; and what Alpine's BusyBox does in the same way.
NOT_ON_ALPINE = {"systemctl"}
BUSYBOX = {"blockdev", "cp", "mkswap", "modprobe", "poweroff"}
PACKAGES = {
    "btrfs": "btrfs-progs",
    "cryptsetup": "cryptsetup",
    "depmod": "kmod",
    "e2fsck": "e2fsprogs",
    "fsck.fat": "dosfstools",
    "losetup": "losetup",
    "mksquashfs": "squashfs-tools",
    "openssl": "openssl",
    "partx": "partx",
    "resize2fs": "e2fsprogs-extra",
    "sfdisk": "sfdisk",
    "unsquashfs": "squashfs-tools",
    "zstd": "zstd",
}


def find_programs(path: Path) -> Iterator[str]:
    """The first words of what a module runs: `run([...])`, and lists that are called argv."""
    for node in ast.walk(ast.parse(path.read_text())):
        words: ast.expr | None = None
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            words = node.args[0] if name in CALLS else None
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            named = getattr(target, "id", "") == "argv"
            words = node.value if named else None
        if isinstance(words, ast.List | ast.Tuple) and words.elts:
            first = words.elts[0]
            if isinstance(first, ast.Constant) and str(first.value)[:1].isalnum():
                yield str(first.value)


def test_an_alpine_image_has_every_program() -> None:
    there = set(read_package_list("alpine", ("minimal",)))
    found = set()
    for path in (REPOSITORY / "ramos").rglob("*.py"):
        if not str(path.relative_to(REPOSITORY / "ramos")).startswith(ELSEWHERE):
            found |= set(find_programs(path))
    assert {"openssl", "mksquashfs", "sfdisk"} <= found, "they are read from the sources"
    own = {Path(place).name for place in payload.LAUNCHERS}
    for program in found - NOT_ON_ALPINE - BUSYBOX - own:
        assert PACKAGES.get(program, f"no package known for {program}") in there
    for tool in initramfs.TOOLS:
        assert tool.package.rpartition(", ")[2].split()[0] in there, tool


def test_what_an_image_starts_is_there() -> None:
    for place, module in payload.LAUNCHERS.items():
        assert callable(importlib.import_module(module).main), place
