"""ACL sidecars: the POSIX ACLs of a layer, which squashfs cannot hold.

Owns: the text format, in both directions. Refuses: setting ACLs. Invariant: any path and any
value can be written, one a line: `access|default <base64 of the xattr> <percent-encoded path>`.
"""

import base64
import binascii
import os
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ramos.errors import DamagedError
from ramos.scan import ACL_XATTRS

WORDS = {"access": ACL_XATTRS[0], "default": ACL_XATTRS[1]}


class Acl(NamedTuple):
    """One ACL: which of the two, its raw xattr value, and whose it is."""

    word: str
    value: bytes
    path: bytes


def collect_acls(top: bytes, paths: Iterable[bytes]) -> bytes:
    """The sidecar for these entries; empty if none of them has an ACL."""
    lines = []
    for path in paths:
        for word, name in WORDS.items():
            try:
                value = os.getxattr(os.path.join(top, path), name, follow_symlinks=False)
            except OSError:
                continue
            lines.append(render_acl(Acl(word, value, path)))
    return "".join(lines).encode("ascii")


def render_acl(acl: Acl) -> str:
    """One line of a sidecar."""
    encoded = base64.b64encode(acl.value).decode("ascii")
    return f"{acl.word} {encoded} {urllib.parse.quote_from_bytes(acl.path)}\n"


def parse_acls(data: bytes, name: str) -> Iterator[Acl]:
    """Read a sidecar; one that is not well formed is damaged."""
    for line in data.decode("ascii", "replace").splitlines():
        parts = line.split(" ")
        try:
            word, value, path = parts
            raw = base64.b64decode(value, validate=True)
        except (ValueError, binascii.Error):
            raise DamagedError("cannot read", name, f"not a line of ACLs: {line!r}") from None
        decoded = urllib.parse.unquote_to_bytes(path)
        if word not in WORDS or decoded.startswith(b"/") or b".." in decoded.split(b"/"):
            raise DamagedError("cannot read", name, f"not a line of ACLs: {line!r}")
        yield Acl(word, raw, decoded)
