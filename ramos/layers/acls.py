"""ACL sidecars: the POSIX ACLs of a layer, which squashfs cannot hold.

Owns: the text format, in both directions, and what an ACL belongs to. Refuses: setting ACLs; a line
that is not written exactly as it would be. Invariant: any path and any value can be written, one a
line: `access|default <type> <uid>:<gid> <base64 of the xattr> <percent-encoded path>`. Sidecars of
older systems lack type and owner.
"""

import base64
import binascii
import contextlib
import os
import re
import stat
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ramos.errors import DamagedError
from ramos.layers.walk import ACL_XATTRS
from ramos.linux.beneath import name_handle, open_entry, open_top

WORDS = {"access": ACL_XATTRS[0], "default": ACL_XATTRS[1]}
TYPES = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFIFO: "p",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFLNK: "l",
    stat.S_IFSOCK: "s",
}
MAX_ID = (1 << 32) - 1
ACL_VERSION = (2).to_bytes(4, "little")
ACL_ENTRY_BYTES = 8
LINE = re.compile(
    r"(access|default) (?:([fdpcb]) ([0-9]{1,10}):([0-9]{1,10}) )?([A-Za-z0-9+/=]+) ([!-~]*)"
)


class Holder(NamedTuple):
    """What an ACL belongs to: the type of an entry and its owners."""

    kind: str
    uid: int
    gid: int


class Acl(NamedTuple):
    """One ACL: which of the two, its raw xattr value, and whose it is (None: not recorded)."""

    word: str
    value: bytes
    path: bytes
    holder: Holder | None


def describe_holder(status: os.stat_result) -> Holder:
    """What of an entry must be as it was for an ACL to be put back."""
    return Holder(TYPES.get(stat.S_IFMT(status.st_mode), "?"), status.st_uid, status.st_gid)


def collect_acls(top: bytes, paths: Iterable[bytes]) -> bytes:
    """The sidecar for these entries; empty if none of them has an ACL."""
    lines = []
    with open_top(top) as folder:
        for path in paths:
            with contextlib.suppress(OSError), open_entry(folder, path) as entry:
                lines += [render_acl(acl) for acl in _read_acls(entry, path)]
    return "".join(lines).encode("ascii")


def _read_acls(entry: int, path: bytes) -> Iterator[Acl]:
    holder = describe_holder(os.fstat(entry))
    for word, name in WORDS.items():
        with contextlib.suppress(OSError):
            yield Acl(word, os.getxattr(name_handle(entry), name), path, holder)


def find_holder(layer: int, acl: Acl) -> Acl | None:
    """The ACL with what it belongs to, as its own layer (an open directory) has it; None if the
    layer has nothing there, or something else than was recorded."""
    try:
        with open_entry(layer, acl.path) as entry:
            found = describe_holder(os.fstat(entry))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return acl._replace(holder=found) if acl.holder in (None, found) else None


def render_acl(acl: Acl) -> str:
    """One line of a sidecar."""
    encoded = base64.b64encode(acl.value).decode("ascii")
    holder = f"{acl.holder.kind} {acl.holder.uid}:{acl.holder.gid} " if acl.holder else ""
    return f"{acl.word} {holder}{encoded} {urllib.parse.quote_from_bytes(acl.path)}\n"


def parse_acls(data: bytes, name: str) -> Iterator[Acl]:
    """Read a sidecar; one that is not well formed is damaged."""
    lines = data.decode("ascii", "replace").split("\n")
    if lines.pop():
        raise DamagedError("cannot read", name, "its last line is not complete")
    for line in lines:
        acl = _parse_line(line)
        if acl is None or not _is_sound(acl) or render_acl(acl) != f"{line}\n":
            raise DamagedError("cannot read", name, f"not a line of ACLs: {line!r}")
        yield acl


def _parse_line(line: str) -> Acl | None:
    match = LINE.fullmatch(line)
    if match is None:
        return None
    word, kind, uid, gid, encoded, path = match.groups()
    try:
        value = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        return None
    holder = Holder(kind, int(uid), int(gid)) if kind else None
    return Acl(word, value, urllib.parse.unquote_to_bytes(path), holder)


def _is_sound(acl: Acl) -> bool:
    """Whether the kernel could have given this value, to an entry that can be below a top."""
    names = acl.path.split(b"/") if acl.path else []
    if any(name in (b"", b".", b"..") for name in names) or b"\0" in acl.path:
        return False
    if acl.holder is not None and max(acl.holder.uid, acl.holder.gid) > MAX_ID:
        return False
    entries = len(acl.value) - len(ACL_VERSION)
    return acl.value.startswith(ACL_VERSION) and entries % ACL_ENTRY_BYTES == 0
