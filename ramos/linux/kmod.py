"""The kernel modules of one kernel: which there are, what they depend on, their plain bytes.

Owns: where they lie, reading modules.dep, modules.softdep, modules.builtin and modules.alias, and
undoing the compression of a module. Refuses: depmod (the tables of the tree are taken as they are).
Invariant: a closure contains every hard dependency; names compare with `-` and `_` as one.
"""

import gzip
import lzma
import struct
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RamosError
from ramos.linux import run

FOLDERS = ("lib/modules", "usr/lib/modules")
SUFFIXES = (".gz", ".xz", ".zst")
SIGNATURE_END = b"~Module signature appended~\n"


def name_library(root: Path) -> str:
    """Where a system keeps modules and firmware: usr/lib where /lib is a link to it."""
    return "usr/lib" if (root / "lib").is_symlink() else "lib"


@dataclass(frozen=True)
class Modules:
    """The module tree of one kernel."""

    folder: Path
    files: dict[str, str]
    needs: dict[str, tuple[str, ...]]
    builtin: frozenset[str]
    soft: dict[str, tuple[str, ...]]

    def close(self, names: set[str]) -> set[str]:
        """`names` as far as they are modules, with all they depend on."""
        closed: set[str] = set()
        queue = [normalize(name) for name in names]
        while queue:
            name = queue.pop()
            if name in closed or name not in self.files:
                continue
            closed.add(name)
            queue += [*self.needs[name], *self.soft.get(name, ())]
        return closed

    def missing(self, names: set[str]) -> set[str]:
        """Those of `names` that this kernel has neither as a module nor built in."""
        wanted = {normalize(name) for name in names}
        return wanted - self.files.keys() - self.builtin

    def read(self, name: str) -> bytes:
        """The plain bytes of a module."""
        path = self.folder / self.files[name]
        data = path.read_bytes()
        if path.suffix == ".gz":
            return gzip.decompress(data)
        if path.suffix == ".xz":
            return lzma.decompress(data)
        return run.run(["zstd", "-dcq"], stdin=data).stdout if path.suffix == ".zst" else data

    def plain_path(self, name: str) -> str:
        """Where a module lies below its folder, once it is not compressed."""
        path = self.files[name]
        return next((path.removesuffix(s) for s in SUFFIXES if path.endswith(s)), path)


def split_signature(module: bytes) -> tuple[bytes, bytes]:
    """A module without its signature, and the signature with what stands behind it.

    The kernel's form: the bytes, a header of 12 bytes whose last 4 are the length, a fixed text.
    """
    if not module.endswith(SIGNATURE_END):
        return module, b""
    header_at = len(module) - len(SIGNATURE_END) - 12
    (length,) = struct.unpack_from(">I", module, header_at + 8)
    start = max(header_at - length, 0)
    return module[:start], module[start:]


def normalize(name: str) -> str:
    """A module's name the way the kernel shows it."""
    return name.replace("-", "_")


def module_name(path: str) -> str:
    """The name of the module in a file."""
    return normalize(path.rpartition("/")[2].partition(".ko")[0])


def load(root: Path, kernel: str) -> Modules:
    """Read the tables of the module tree of `kernel` below `root`."""
    folder = next((root / f / kernel for f in FOLDERS if (root / f / kernel).is_dir()), None)
    if folder is None:
        raise RamosError("no kernel modules", kernel, f"{root}/{FOLDERS[0]} has no such folder")
    table = folder / "modules.dep"
    if not table.exists():
        raise RamosError("no module table", table, "depmod was not run for this kernel")
    files: dict[str, str] = {}
    needs: dict[str, tuple[str, ...]] = {}
    for line in table.read_text(encoding="ascii").splitlines():
        path, _, rest = line.partition(":")
        files[module_name(path)] = path
        needs[module_name(path)] = tuple(module_name(word) for word in rest.split())
    builtin = frozenset(module_name(line) for line in read_lines(folder / "modules.builtin"))
    return Modules(folder, files, needs, builtin, _read_soft(folder, files))


def read_lines(path: Path) -> list[str]:
    """The lines of a table, without comments; an absent table has none."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _read_soft(folder: Path, files: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Soft dependencies that are named by module; those named by alias are looked up in it."""
    aliases: dict[str, list[str]] = {}
    for line in read_lines(folder / "modules.alias"):
        words = line.split()
        if len(words) == 3 and "*" not in words[1]:
            aliases.setdefault(normalize(words[1]), []).append(normalize(words[2]))
    soft: dict[str, tuple[str, ...]] = {}
    for line in read_lines(folder / "modules.softdep"):
        _, name, *words = line.split()
        wanted = [normalize(word) for word in words if word not in ("pre:", "post:")]
        found = [m for w in wanted for m in ([w] if w in files else aliases.get(w, []))]
        soft[normalize(name)] = (*soft.get(normalize(name), ()), *found)
    return soft


def select_aliases(modules: Modules, names: set[str]) -> list[str]:
    """The lines of modules.alias that lead to one of `names`."""
    lines = read_lines(modules.folder / "modules.alias")
    return [line for line in lines if normalize(line.rpartition(" ")[2]) in names]
