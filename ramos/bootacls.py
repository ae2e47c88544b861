"""Access control lists, which squashfs does not keep: put back after the layers were restored.

Owns: setting the attributes of the running generation's sidecars (`acls` owns their text), and the
xattrs of `/`, which is a new directory at every boot.
Refuses: setting one on anything but the file it was saved with: where a higher layer holds the
same path, that layer's sidecar counts. Invariant: a refused file never stops the others.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ramos import acls, fs
from ramos.compare import read_xattrs
from ramos.errors import RamosError
from ramos.generation import Generation
from ramos.places import Places
from ramos.stage import OWN_XATTRS


def restore_acls(generation: Generation, places: Places) -> tuple[int, list[str]]:
    """Put back the ACLs of a generation; how many, and what was wrong."""
    count = 0
    problems = _restore_top(places)
    for above, path in _list_sidecars(generation, places):
        try:
            for acl in acls.parse_acls(path.read_bytes(), path.name):
                count += _restore_one(acl, above, places.root, problems)
        except RamosError as error:
            problems.append(str(error))
    return count, problems


def _restore_top(places: Places) -> list[str]:
    """Give `/` the xattrs that it has in the topmost layer; what was wrong."""
    problems = []
    for layer in _list_stack(places)[-1:]:
        for name, value in read_xattrs(os.fsencode(layer)).items():
            try:
                if not name.startswith(OWN_XATTRS):
                    os.setxattr(places.root, name, value)
            except OSError as error:
                problems.append(f"/: {name}: {error.strerror}")
    return problems


def _list_stack(places: Places) -> list[Path]:
    """The directories of the layers, bottom first."""
    return sorted(p for p in places.stack.iterdir() if p.is_dir()) if places.stack.exists() else []


def _restore_one(acl: acls.Acl, above: Sequence[Path], root: Path, problems: list[str]) -> int:
    """Set one attribute; whether it was (1 or 0)."""
    if any(os.path.lexists(b"%s/%s" % (os.fsencode(layer), acl.path)) for layer in above):
        return 0
    target = b"%s/%s" % (os.fsencode(root), acl.path)
    name = acls.WORDS[acl.word]
    try:
        if _read_attribute(target, name) != acl.value:
            _copy_up(target)
            os.setxattr(target, name, acl.value, follow_symlinks=False)
    except FileNotFoundError:
        return 0  # deleted by a higher layer
    except OSError as error:
        problems.append(f"{os.fsdecode(acl.path)}: {error.strerror}")
        return 0
    return 1


def _copy_up(target: bytes) -> None:
    """Have overlayfs copy the entry into RAM: it sets no ACL on what still lies in a squashfs."""
    status = os.lstat(target)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _read_attribute(target: bytes, name: str) -> bytes:
    try:
        return os.getxattr(target, name, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        return b""


def _list_sidecars(generation: Generation, places: Places) -> Iterator[tuple[Sequence[Path], Path]]:
    """Each sidecar that is what was saved, with the directories of the layers above its own."""
    stack = _list_stack(places)
    layer = 0
    for file in generation.saved:
        if file.kind == "layer":
            layer += 1
            continue
        path = places.persist / file.path
        if fs.hash_file(path) != file.sha256:
            raise RamosError(
                "cannot put back access control lists", file.path, "it is not what was saved"
            )
        yield stack[layer:], path
