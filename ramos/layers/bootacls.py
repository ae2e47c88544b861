"""Access control lists, which squashfs does not keep: put back after the layers were restored.

Owns: setting the attributes of the running generation's sidecars (`acls` owns their text), and the
xattrs of `/`, which is a new directory at every boot.
Refuses: setting one on anything but the file it was saved with: where a higher layer says anything
of the path, that layer's sidecar counts; a link on the way is not followed; type and owner must be
what was saved. Invariants: a refused file never stops the others; names of one file stay one file.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ramos.errors import RamosError, find_reason
from ramos.layers import acls
from ramos.layers.compare import read_xattrs
from ramos.layers.stack import is_mentioned
from ramos.layers.stage import OWN_XATTRS
from ramos.layout import Places
from ramos.linux import fs
from ramos.linux.beneath import name_handle, open_entry, open_folder_of, open_top
from ramos.store.generation import Generation

CANNOT = "cannot put back access control lists"
LINK_NAME = b".ramos-acl-link"


def restore_acls(generation: Generation, places: Places) -> tuple[int, list[str]]:
    """Put back the ACLs of a generation; how many, and what was wrong."""
    count = 0
    problems = _restore_top(places)
    stack = _list_stack(places)
    with open_top(places.root) as root:
        for number, path in _list_sidecars(generation, places):
            try:
                data = _read_sidecar(path, generation)
                if number >= len(stack):
                    raise RamosError(CANNOT, path.name, "its layer was not put up")
                above = [os.fsencode(layer) for layer in stack[number + 1 :]]
                with open_top(stack[number]) as layer:
                    work = _Sidecar(root, layer, above, problems)
                    for acl in acls.parse_acls(data, path.name):
                        count += work.restore(acl)
            except (OSError, RamosError) as error:
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
                problems.append(f"/: {name}: {find_reason(error)}")
    return problems


def _list_stack(places: Places) -> list[Path]:
    """The directories of the layers, bottom first."""
    return sorted(p for p in places.stack.iterdir() if p.is_dir()) if places.stack.exists() else []


def _list_sidecars(generation: Generation, places: Places) -> Iterator[tuple[int, Path]]:
    """Each sidecar, with the number of its layer in the stack."""
    layer = -1
    for file in generation.saved:
        if file.kind == "layer":
            layer += 1
        else:
            yield layer, places.persist / file.path


def _read_sidecar(path: Path, generation: Generation) -> bytes:
    """A sidecar's bytes, if they are those that were saved."""
    wanted = {Path(file.path).name: file.sha256 for file in generation.saved}
    if fs.hash_file(path) != wanted[path.name]:
        raise RamosError(CANNOT, path.name, "it is not what was saved")
    return path.read_bytes()


@dataclass
class _Sidecar:
    """One layer's ACLs on their way back: the running tree, the layer, and what lies above it."""

    root: int
    layer: int
    above: Sequence[bytes]
    problems: list[str]
    twins: dict[int, bytes] = field(default_factory=dict)

    def restore(self, acl: acls.Acl) -> int:
        """Set one attribute; whether it was (1 or 0)."""
        if any(is_mentioned(top, acl.path) for top in self.above):
            return 0
        try:
            known = acls.find_holder(self.layer, acl)
            if known is None:
                raise OSError(0, "its layer has nothing like it")
            self._join_twins(known)
            with open_entry(self.root, acl.path) as entry:
                refuse_other(entry, known)
                _set_attribute(entry, acls.WORDS[acl.word], acl.value)
        except FileNotFoundError:
            return 0  # deleted since the boot began
        except OSError as error:
            self.problems.append(f"{os.fsdecode(acl.path)!r}: {find_reason(error)}")
            return 0
        return 1

    def _join_twins(self, acl: acls.Acl) -> None:
        """The names of one file, which a copy into RAM tears apart, lead to one file again."""
        with open_entry(self.layer, acl.path) as saved:
            status = os.fstat(saved)
        if stat.S_ISDIR(status.st_mode) or status.st_nlink < 2:
            return
        first = self.twins.setdefault(status.st_ino, acl.path)
        if first == acl.path:
            return
        with (
            open_entry(self.root, first) as one,
            open_folder_of(self.root, acl.path) as (folder, name),
            open_entry(folder, name) as other,
        ):
            refuse_other(one, acl)
            refuse_other(other, acl)
            if not os.path.samestat(os.fstat(one), os.fstat(other)):
                _link_over(one, folder, name)


def refuse_other(entry: int, acl: acls.Acl) -> None:
    """An ACL is for the entry that it was saved with."""
    found = acls.describe_holder(os.fstat(entry))
    if found != acl.holder:
        raise OSError(0, "skipped: its type or owner is not what was saved")


def _link_over(one: int, folder: int, name: bytes) -> None:
    """Make a name lead to an open file; the directory's times stay what they were."""
    status = os.fstat(folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(LINK_NAME, dir_fd=folder)
    os.link(name_handle(one), LINK_NAME, dst_dir_fd=folder)
    os.rename(LINK_NAME, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.utime(name_handle(folder), ns=(status.st_atime_ns, status.st_mtime_ns))


def _set_attribute(entry: int, name: str, value: bytes) -> None:
    target = name_handle(entry)
    if _read_attribute(target, name) == value:
        return
    # Have overlayfs copy the entry into RAM: it sets no ACL on what still lies in a squashfs.
    status = os.fstat(entry)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.setxattr(target, name, value)


def _read_attribute(target: bytes, name: str) -> bytes:
    try:
        return os.getxattr(target, name)
    except OSError:
        return b""
