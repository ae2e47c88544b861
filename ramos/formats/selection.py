"""What goes into a package that is written: chosen from another one, or found in a directory.

Owns: `Rewriting`, and the order of members. Refuses: hard links to what was left out, devices.
Invariants: every directory stands before what is in it; a directory is walked in the same order
every time.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from ramos.errors import RamosError
from ramos.formats.archive import DIRECTORY, FILE, HARDLINK, SYMLINK, Member

# ACLs and labels of the machine we build on are no part of a package.
UNPACKED_XATTRS = ("system.", "security.selinux")
Item = tuple[Member, IO[bytes] | None]


def _keep_all(_name: str) -> bool:
    return True


@dataclass(frozen=True)
class Rewriting:
    """What a rewriting does to a package: which names stay, and which fields and scripts change.

    A value of None drops the field or script. Alpine: dropping `trigger` drops `triggers` too.
    """

    keep: Callable[[str], bool] = _keep_all
    fields: Mapping[str, str | None] = field(default_factory=dict)
    scripts: Mapping[str, bytes | None] = field(default_factory=dict)


def select_members(
    label: str, entries: Iterable[Item], keep: Callable[[str], bool]
) -> Iterator[Item]:
    """The members that stay, each behind the directories that it needs."""
    directories: dict[str, Member] = {}
    written: set[str] = set()
    for member, content in entries:
        if member.kind == DIRECTORY:
            directories[member.name] = member
        if not keep(member.name):
            continue
        if member.kind == HARDLINK and member.link not in written:
            reason = f"the hard link {member.name!r} stays, but not {member.link!r}"
            raise RamosError("cannot pack", label, reason, "Nothing was written")
        for parent in list_parents(member.name):
            if parent not in written:
                written.add(parent)
                yield directories.get(parent, Member(parent, DIRECTORY, 0o755)), None
        if member.name not in written:
            written.add(member.name)
            yield member, content


def list_parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def walk_tree(directory: Path, mtime: int | None) -> Iterator[Item]:
    """Everything below a directory, sorted; the second name of a file is a hard link."""
    seen: dict[tuple[int, int], str] = {}
    for path in sorted(_list_below(directory), key=lambda path: os.fsencode(path)):
        name = str(path.relative_to(directory))
        state = path.lstat()
        member = _describe_file(path, name, state, mtime)
        if member.kind == FILE and state.st_nlink > 1:
            first = seen.setdefault((state.st_dev, state.st_ino), name)
            if first != name:
                member = replace(member, kind=HARDLINK, link=first, size=0, xattrs={})
        if member.kind == FILE:
            with path.open("rb") as content:
                yield member, content
        else:
            yield member, None


def _list_below(directory: Path) -> Iterator[Path]:
    for folder, directories, files in os.walk(directory):
        yield from (Path(folder, name) for name in directories + files)


def _describe_file(path: Path, name: str, state: os.stat_result, mtime: int | None) -> Member:
    kinds = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}
    kind = kinds.get(stat.S_IFMT(state.st_mode))
    if kind is None:
        raise RamosError("cannot pack", path, "a package holds files, directories and links only")
    owned = os.geteuid() == 0
    return Member(
        name=name,
        kind=kind,
        mode=0o777 if kind == SYMLINK else stat.S_IMODE(state.st_mode),
        uid=state.st_uid if owned else 0,
        gid=state.st_gid if owned else 0,
        uname="root" if not owned or state.st_uid == 0 else "",
        gname="root" if not owned or state.st_gid == 0 else "",
        size=state.st_size if kind == FILE else 0,
        mtime=max(0, int(state.st_mtime)) if mtime is None else mtime,
        link=_read_link(path) if kind == SYMLINK else "",
        xattrs={
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in sorted(os.listxattr(path, follow_symlinks=False))
            if not key.startswith(UNPACKED_XATTRS)
        },
    )


def _read_link(path: Path) -> str:
    return os.readlink(path)  # noqa: PTH115  # a Path would tidy up the target
