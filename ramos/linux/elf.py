"""Which libraries a program of a root tree needs, without running anything of that tree.

Owns: reading the dynamic section of 64-bit little-endian ELF files and finding the libraries they
name below the root tree. Refuses: the host's own libraries, and the tree's ld.so.cache (it may be
absent or stale). Invariant: a library that cannot be found is an error, never left out.
"""

import posixpath
import struct
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RamosError
from ramos.linux.beneath import resolve_inside

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NULL, DT_NEEDED, DT_STRTAB, DT_RPATH, DT_RUNPATH = 0, 1, 5, 15, 29
# As glibc's loader looks, and musl's: libraries of both may have the same name.
LIBRARY_FOLDERS: tuple[str, ...] = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib",
    "/usr/lib",
    "/lib64",
    "/usr/lib64",
    "/usr/local/lib",
)
MUSL_FOLDERS: tuple[str, ...] = ("/lib", "/usr/local/lib", "/usr/lib")
MUSL = "/ld-musl-"


@dataclass(frozen=True)
class Dynamic:
    """What an ELF file says about its libraries."""

    interpreter: str
    needed: tuple[str, ...]
    search: tuple[str, ...]


def find_file(root: Path, path: str) -> Path | None:
    """The file that `path` leads to with `root` as `/`, or None; links never leave the tree."""
    try:
        found = resolve_inside(root, path)
    except RamosError:
        return None
    return found if found.exists() else None


def read_dynamic(path: Path) -> Dynamic | None:
    """The dynamic section of an ELF file; None for a script or any other file."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        return None
    try:
        return _parse_dynamic(data)
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise RamosError("cannot read program", path, f"damaged ELF file ({error})") from None


def _parse_dynamic(data: bytes) -> Dynamic:
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    loads = [(h[3], h[2], h[5]) for h in headers if h[0] == PT_LOAD]
    interpreter = next((_text(data, h[2]) for h in headers if h[0] == PT_INTERP), "")
    pairs: list[tuple[int, int]] = []
    for header in headers:
        if header[0] == PT_DYNAMIC:
            section = data[header[2] : header[2] + header[5] // 16 * 16]
            pairs = list(struct.iter_unpack("<QQ", section))
    values = [pair for pair in pairs if pair[0] != DT_NULL]
    address = next((value for tag, value in values if tag == DT_STRTAB), 0)
    start = next((off + address - at for at, off, n in loads if at <= address < at + n), 0)
    needed = tuple(_text(data, start + value) for tag, value in values if tag == DT_NEEDED)
    paths = [_text(data, start + value) for tag, value in values if tag in (DT_RPATH, DT_RUNPATH)]
    return Dynamic(interpreter, needed, tuple(p for path in paths for p in path.split(":") if p))


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def find_libraries(root: Path, programs: list[str]) -> dict[str, Path]:
    """Everything `programs` (paths in the tree) need to run: path in the tree -> file.

    Libraries are named by folder and soname; the program interpreter by its own path.
    """
    found: dict[str, Path] = {}
    queue = [(program, LIBRARY_FOLDERS) for program in programs]
    while queue:
        path, folders = queue.pop()
        file = find_file(root, path)
        dynamic = read_dynamic(file) if file else None
        if dynamic is None:
            continue
        wanted = []
        if dynamic.interpreter:
            wanted.append((dynamic.interpreter, _must(root, dynamic.interpreter, path)))
            folders = MUSL_FOLDERS if MUSL in dynamic.interpreter else LIBRARY_FOLDERS
        places = (*_list_own(path, dynamic), *folders)
        wanted += [_find_library(root, name, path, places) for name in dynamic.needed]
        for library, target in wanted:
            if library not in found:
                found[library] = target
                queue.append((library, folders))
    return found


def _list_own(user: str, dynamic: Dynamic) -> list[str]:
    """The folders that a file itself names."""
    own = [p.replace("${ORIGIN}", "$ORIGIN") for p in dynamic.search]
    return [posixpath.normpath(p.replace("$ORIGIN", posixpath.dirname(user))) for p in own]


def _find_library(root: Path, name: str, user: str, folders: tuple[str, ...]) -> tuple[str, Path]:
    for folder in folders:
        file = find_file(root, f"{folder}/{name}")
        if file is not None and file.is_file():
            return f"{folder}/{name}", file
    raise RamosError("library not found", name, f"{user} needs it, and {root} does not have it")


def _must(root: Path, path: str, user: str) -> Path:
    file = find_file(root, path)
    if file is None:
        raise RamosError("library not found", path, f"{user} needs it, and {root} does not have it")
    return file
