"""The rules of the house as data: which files are ours, and which room may import from which."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_FUNCTION_LINES = 40
MAX_MODULE_LINES = 400
MIN_MODULE_LINES = 60

# Open to every room.
GROUND = ("errors", "progress", "sizes", "layout", "config", "booted")
# Room: the rooms that it may import from, besides the ground. From the ground up.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "linux": (),
    "formats": ("linux",),
    "store": ("linux",),
    "stick": ("store", "linux"),
    "layers": ("store", "linux"),
    "boot": ("stick", "store", "linux"),
    "save": ("boot", "layers", "stick", "store", "linux"),
    "packages": ("boot", "formats", "stick", "store", "linux"),
    "image": ("packages", "formats", "boot", "stick", "store", "linux"),
    "vm": ("boot", "linux"),
    # It writes a layer where there is no stick to save to.
    "shutdown": ("save", "boot", "layers", "stick", "store", "linux"),
    "daemon": ("shutdown", "stick", "store", "linux"),
    "cli": (
        *("daemon", "shutdown", "vm", "image", "packages", "save"),
        *("boot", "layers", "stick", "store", "linux"),
    ),
}

# What says whether a save kept everything sees with its own eyes.
ORACLES = ("tests.labs.tree", "tests.labs.bank", "tests.crash.check")


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


def find_room(module: str) -> str:
    """The room of a module, or its own name on the ground."""
    words = module.split(".")
    return "cli" if words[1:] == ["__main__"] else ".".join(words[1:2])


def parse_python(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))
