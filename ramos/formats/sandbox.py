"""Unpacking what others packed, into a directory and nowhere else.

Owns: which names and links a package may bring, and how they are written. Refuses, with the name
of the package: absolute names, `..`, links that climb out of the tree, files under a link, devices,
names given twice, and bombs. Invariant: only names below the given directory are made, each one
new (nothing is written through a link), so a hostile package can at most fill that directory up
to the limits. The tree that results may still hold absolute links: read from it only by
`beneath.resolve_inside`.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from ramos.errors import RamosError
from ramos.formats.archive import CHUNK_BYTES, DEVICE, DIRECTORY, FILE, HARDLINK, SYMLINK, Member
from ramos.sizes import format_count, format_size

MAX_PATH_BYTES = 4095
MAX_NAME_BYTES = 255
# One more means "as it is" to chown.
MAX_OWNER = (1 << 32) - 2
# A package of modules or firmware shrinks 2 to 8 times; only a bomb shrinks 200 times.
BOMB_RATIO = 200
BOMB_FREE_BYTES = 64 << 20


@dataclass(frozen=True)
class Limits:
    """How much a package may bring."""

    size_bytes: int = 8 << 30
    entries: int = 400_000

    def cap_ratio(self, compressed_bytes: int) -> "Limits":
        """The same limits, where data compressed to this size cannot become a bomb."""
        allowed = max(BOMB_FREE_BYTES, compressed_bytes * BOMB_RATIO)
        return Limits(min(self.size_bytes, allowed), self.entries)


def refuse(label: str, reason: object) -> NoReturn:
    """Refuse a package for what it would do."""
    raise RamosError(
        "refused package", label, reason, "Nothing was written outside its own directory"
    )


def clean_name(label: str, name: str) -> str:
    """A member's name as a plain relative path; "" for the root itself."""
    if name.startswith("/"):
        refuse(label, f"it holds the absolute name {name!r}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        refuse(label, f"the name {name!r} leads out of its tree")
    path = "/".join(parts)
    encoded = [len(os.fsencode(part)) for part in parts]
    if "\0" in path or sum(encoded) + len(encoded) > MAX_PATH_BYTES:
        refuse(label, f"it holds an impossible name: {name[:60]!r}")
    if encoded and max(encoded) > MAX_NAME_BYTES:
        refuse(label, f"it holds a name that is too long: {name[:60]!r}")
    return path


def check_link(label: str, name: str, target: str) -> None:
    """Refuse a symbolic link that climbs above the root of the tree; absolute ones stay inside."""
    if not target or "\0" in target or len(os.fsencode(target)) > MAX_PATH_BYTES:
        refuse(label, f"the link {name!r} has an impossible target")
    if target.startswith("/"):
        if ".." in target.split("/"):
            refuse(label, f"the link {name!r} -> {target!r} leads out of its tree")
        return
    depth = name.count("/")
    for part in target.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            refuse(label, f"the link {name!r} -> {target!r} leads out of its tree")


def unpack_members(
    label: str,
    members: Iterable[tuple[Member, IO[bytes] | None]],
    directory: Path,
    *,
    limits: Limits | None = None,
    owners: bool | None = None,
) -> list[str]:
    """Write the members below an empty directory and return their names, in order.

    `owners` gives files their owners and extended attributes (as root: always).
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise RamosError("cannot unpack", directory, "the directory is not empty")
        tree = _Tree(label, directory, limits or Limits(), _is_root() if owners is None else owners)
        for member, content in members:
            tree.add(member, content)
        tree.finish()
    except OSError as error:
        raise RamosError("cannot unpack", label, error, f"{directory} is incomplete") from error
    return list(tree.kinds)


def _is_root() -> bool:
    return os.geteuid() == 0


class _Tree:
    """What was written so far: a name is looked up here, never on the disk."""

    def __init__(self, label: str, root: Path, limits: Limits, owners: bool) -> None:
        self.label = label
        self.root = root
        self.limits = limits
        self.owners = owners
        self.kinds: dict[str, str] = {}
        self.size_bytes = 0
        self._directories: dict[str, Member] = {}

    def add(self, member: Member, content: IO[bytes] | None) -> None:
        name = clean_name(self.label, member.name)
        if not name:
            return
        if len(self.kinds) >= self.limits.entries:
            refuse(self.label, f"it holds more than {format_count(self.limits.entries, 'entry')}")
        self._make_parents(name)
        known = self.kinds.get(name)
        if known is not None and not (known == DIRECTORY == member.kind):
            refuse(self.label, f"it holds {name!r} twice")
        if member.kind == DIRECTORY:
            self._directories[name] = member
            if known is None:
                (self.root / name).mkdir(mode=0o700)
        elif member.kind == FILE and content is not None:
            self._write_file(name, member, content)
        elif member.kind == SYMLINK:
            check_link(self.label, name, member.link)
            (self.root / name).symlink_to(member.link)
            self._set_metadata(self.root / name, member)
        elif member.kind == HARDLINK:
            self._make_hardlink(name, member)
        else:
            assert member.kind == DEVICE
            refuse(self.label, f"it holds the device or pipe {name!r}")
        self.kinds[name] = member.kind

    def finish(self) -> None:
        """Directories get their modes and times last, when nothing more is made in them."""
        for name in reversed(self._directories):
            self._set_metadata(self.root / name, self._directories[name])

    def _make_parents(self, name: str) -> None:
        parts = name.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            parent = "/".join(parts[:count])
            kind = self.kinds.get(parent)
            if kind is None:
                (self.root / parent).mkdir(mode=0o755)
                self.kinds[parent] = DIRECTORY
            elif kind != DIRECTORY:
                refuse(self.label, f"{name!r} lies below {parent!r}, which is a {kind}")

    def _write_file(self, name: str, member: Member, content: IO[bytes]) -> None:
        path = self.root / name
        digest = hashlib.sha1(usedforsecurity=False)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            while data := content.read(CHUNK_BYTES):
                self.size_bytes += len(data)
                if self.size_bytes > self.limits.size_bytes:
                    limit = format_size(self.limits.size_bytes)
                    refuse(self.label, f"it unpacks to more than {limit}")
                digest.update(data)
                file.write(data)
            if file.tell() != member.size:
                refuse(self.label, f"{name!r} is shorter than it says")
        if member.checksum is not None and member.checksum != digest.hexdigest():
            refuse(self.label, f"the content of {name!r} does not match its checksum")
        self._set_metadata(path, member)

    def _make_hardlink(self, name: str, member: Member) -> None:
        target = clean_name(self.label, member.link)
        if self.kinds.get(target) not in (FILE, HARDLINK):
            refuse(self.label, f"the hard link {name!r} points to {target!r}, which is no file")
        os.link(self.root / target, self.root / name, follow_symlinks=False)

    def _set_metadata(self, path: Path, member: Member) -> None:
        """Owner before mode (chown clears setuid), extended attributes after the owner."""
        if not all(0 <= owner <= MAX_OWNER for owner in (member.uid, member.gid)):
            refuse(self.label, f"{member.name!r} has an impossible owner")
        if any("\0" in key for key in member.xattrs):
            refuse(self.label, f"{member.name!r} has an attribute with an impossible name")
        if self.owners:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)
            for key, value in member.xattrs.items():
                os.setxattr(path, key, value, follow_symlinks=False)
        if member.kind != SYMLINK:
            path.chmod(stat.S_IMODE(member.mode))
        with contextlib.suppress(OverflowError):
            os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)
