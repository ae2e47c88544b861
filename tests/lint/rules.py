"""The rules of the house as data: which files are ours, and which module has which rank."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_FUNCTION_LINES = 40
MAX_MODULE_LINES = 400

# A module imports only from lower ranks. A package's rank holds for what is in it, unless listed.
RANKS = {
    # 0, pure: words
    "ramos": 0,
    "ramos.daemon": 0,
    "ramos.shutdown": 0,
    "ramos.vm": 0,
    "ramos.packages": 0,
    "ramos.save": 0,
    "ramos.boot": 0,
    "ramos.layers": 0,
    "ramos.stick": 0,
    "ramos.store": 0,
    "ramos.linux": 0,
    "ramos.errors": 0,
    "ramos.layout": 1,
    "ramos.places": 2,
    # 1, pure: parse, plan, render, decide
    "ramos.config": 10,
    "ramos.stick.disks": 10,
    "ramos.store.generation": 10,
    "ramos.boot.env": 10,
    "ramos.boot.menu": 11,
    "ramos.boot.bootchart": 10,
    "ramos.daemon.pressure": 11,
    "ramos.daemon.step": 12,
    "ramos.packages.recipe": 10,
    # 2, effects: the only processes; durable files, mounts, freezing, verity
    "ramos.linux.cpio": 10,
    "ramos.linux.run": 20,
    "ramos.linux.elf": 20,
    "ramos.linux.fs": 21,
    "ramos.linux.mounts": 22,
    "ramos.linux.verity": 22,
    "ramos.linux.guard": 21,
    "ramos.linux.forked": 21,
    "ramos.linux.freeze": 22,
    # 3: one thing of the machine each
    "ramos.linux.syscalls": 20,
    "ramos.linux.terminals": 20,
    "ramos.linux.worker": 20,
    "ramos.daemon.notify": 20,
    "ramos.shutdown.deadline": 21,
    "ramos.shutdown.keeper": 41,
    "ramos.shutdown.stranded": 48,
    "ramos.settings": 30,
    "ramos.store.records": 30,
    "ramos.stick.check": 30,
    "ramos.store.generations": 31,
    "ramos.layers.index": 29,
    "ramos.layers.obstacles": 29,
    "ramos.layers.walk": 30,
    "ramos.linux.squashfs": 30,
    "ramos.layers.stage": 31,
    "ramos.linux.beneath": 20,
    "ramos.layers.acls": 31,
    "ramos.layers.compare": 32,
    "ramos.save.snapshot": 32,
    "ramos.linux.btrfs": 31,
    "ramos.save.session": 33,
    "ramos.save.source": 34,
    "ramos.layers.stack": 32,
    "ramos.layers.overlay": 33,
    "ramos.stick.luks": 30,
    "ramos.daemon.swap": 30,
    "ramos.daemon.links": 30,
    "ramos.stick.identity": 29,
    "ramos.formats": 30,
    "ramos.formats.archive": 22,
    "ramos.formats.sandbox": 23,
    "ramos.formats.selection": 23,
    "ramos.formats.ar": 23,
    "ramos.formats.deb_package": 24,
    "ramos.formats.deb": 25,
    "ramos.formats.deb_pack": 26,
    "ramos.formats.apk_version": 10,
    "ramos.formats.apk_sign": 24,
    "ramos.formats.apk_package": 25,
    "ramos.formats.apk_pack": 26,
    "ramos.formats.apk_index": 31,
    "ramos.formats.openpgp": 24,
    "ramos.formats.deb_repository": 25,
    "ramos.packages.recipes": 30,
    "ramos.packages.site": 30,
    "ramos.boot.kernels": 33,
    "ramos.packages.unpack": 33,
    "ramos.store.images": 40,
    "ramos.packages.journal": 41,
    "ramos.packages.debian_settings": 40,
    "ramos.packages.debian": 41,
    "ramos.packages.alpine": 41,
    "ramos.packages.build": 42,
    "ramos.packages.running": 43,
    "ramos.packages.explain": 31,
    "ramos.boot.esp": 33,
    "ramos.stick.watch": 33,
    "ramos.daemon.powerbutton": 30,
    "ramos.layers.bootacls": 33,
    "ramos.store.scrub": 40,
    "ramos.store.seal": 41,
    "ramos.shutdown.order": 45,
    "ramos.boot.confirm": 46,
    "ramos.shutdown.finalsave": 47,
    "ramos.daemon.status": 41,
    "ramos.save.usage": 40,
    "ramos.boot.report": 41,
    # 4: the use cases
    "ramos.layers.layer": 40,
    "ramos.save.ground": 35,
    "ramos.save.adopt": 41,
    "ramos.save.diff": 33,
    "ramos.save.exchange": 43,
    "ramos.save.status": 43,
    "ramos.save.space": 31,
    "ramos.save.history": 41,
    "ramos.layers.merge": 41,
    "ramos.save.commit": 42,
    "ramos.save.compact": 43,
    "ramos.packages.repository": 40,
    "ramos.packages.change": 43,
    "ramos.packages.engine": 44,
    "ramos.stick.grow": 40,
    "ramos.linux.kmod": 30,
    "ramos.boot.initramfs": 40,
    "ramos.image": 40,
    "ramos.image.plan": 40,
    "ramos.image.progress": 40,
    "ramos.image.rootless": 41,
    "ramos.image.debian_source": 41,
    "ramos.image.cache": 41,
    "ramos.image.common_setup": 41,
    "ramos.image.grub": 41,
    "ramos.image.squash": 41,
    "ramos.image.debian": 43,
    "ramos.image.debian_setup": 42,
    "ramos.image.mirror": 40,
    "ramos.image.alpine_setup": 42,
    "ramos.image.alpine_source": 42,
    "ramos.image.alpine": 43,
    "ramos.image.payload": 42,
    "ramos.image.partitions": 42,
    "ramos.image.identity": 43,
    "ramos.image.contents": 43,
    "ramos.vm.qmp": 30,
    "ramos.vm.serial": 30,
    "ramos.vm.firmware": 40,
    "ramos.vm.plan": 41,
    "ramos.vm.watch": 42,
    "ramos.vm.machine": 43,
    "ramos.vm.accel": 44,
    # 5: pipelines, and one event loop
    "ramos.image.build": 50,
    "ramos.image.provision": 50,
    "ramos.daemon.loop": 50,
    # 6: the only printing
    "ramos.cli": 90,
    "ramos.__main__": 99,
}

# What says whether a save kept everything sees with its own eyes.
ORACLES = ("tests.root.tree", "tests.root.bank", "tests.crash.check")


def list_python(*folders: str) -> list[Path]:
    """All Python files below the given folders of the repository."""
    return sorted(p for folder in folders for p in (REPOSITORY / folder).rglob("*.py"))


def list_shell() -> list[Path]:
    """All sh scripts of the repository, told by their first line or their place."""
    candidates = [p for p in REPOSITORY.iterdir() if p.is_file()]
    for folder in ("initramfs-hooks", "services", "apk-triggers", "grub", ".ci", "bin", "tests"):
        candidates += [p for p in (REPOSITORY / folder).rglob("*") if p.is_file()]
    return sorted(p for p in candidates if is_shell(p))


def is_shell(path: Path) -> bool:
    """Whether a file is sh: by a #! line, or by its ending."""
    if path.suffix in (".py", ".pyc"):
        return False
    with path.open("rb") as file:
        first = file.readline(64)
    return path.suffix == ".sh" or (first.startswith(b"#!") and b"sh" in first.split(b"/")[-1])


def module_name(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_rank(module: str) -> int | None:
    """The rank of a module: its own, or that of the nearest package that has one."""
    while module and module != "ramos":
        if module in RANKS:
            return RANKS[module]
        module = module.rpartition(".")[0]
    return RANKS["ramos"] if module == "ramos" else None


def parse_python(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))
