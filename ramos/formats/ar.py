"""The ar archive around a Debian package: a magic line, then members behind 60-byte headers.

Owns: reading the list of members, and writing members. Refuses: long names and symbol tables (no
package has them), members that reach beyond the end of the file. Invariant: a member's bytes lie
wholly inside the file.
"""

import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from ramos.formats.archive import refuse

MAGIC = b"!<arch>\n"
HEADER = re.compile(rb"(.{16})([ 0-9]{12})([ 0-9]{6})([ 0-9]{6})([ 0-7]{8})([ 0-9]{10})`\n", re.S)
HEADER_BYTES = 60
MAX_MEMBERS = 16
COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class ArMember:
    """One member: its name and where its bytes lie."""

    name: str
    offset: int
    size_bytes: int


class Range:
    """A part of a file that can be read once, from its start to its end."""

    def __init__(self, file: IO[bytes], member: ArMember) -> None:
        self._file = file
        self._offset = member.offset
        self._left = member.size_bytes

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size`; none at the end of the part."""
        wanted = self._left if size < 0 else min(size, self._left)
        self._file.seek(self._offset)
        data = self._file.read(wanted)
        self._offset += len(data)
        self._left -= len(data)
        return data


def list_members(file: IO[bytes], label: str) -> tuple[ArMember, ...]:
    """All members, in order."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        refuse(label, "it is not a Debian package")
    members: list[ArMember] = []
    offset = len(MAGIC)
    while offset < end:
        file.seek(offset)
        member = _read_header(file.read(HEADER_BYTES), offset + HEADER_BYTES, label)
        if member.offset + member.size_bytes > end:
            refuse(label, f"it ends in the middle of {member.name} (truncated)")
        if len(members) >= MAX_MEMBERS:
            refuse(label, f"it has more than {MAX_MEMBERS} members")
        members.append(member)
        offset = member.offset + member.size_bytes + member.size_bytes % 2
    return tuple(members)


def _read_header(header: bytes, offset: int, label: str) -> ArMember:
    if len(header) < HEADER_BYTES:
        refuse(label, "it ends in the middle of a header (truncated)")
    match = HEADER.fullmatch(header)
    size = match[6].strip() if match else b""
    if match is None or not size.isdigit():
        refuse(label, "a header of its archive is damaged")
    name = match[1].rstrip(b" ").removesuffix(b"/").decode("ascii", "replace")
    return ArMember(name, offset, int(size))


def write_members(output: IO[bytes], members: Iterable[tuple[str, IO[bytes]]]) -> None:
    """Write an archive; times and owners are all 0, so that the same input gives the same bytes."""
    output.write(MAGIC)
    for name, content in members:
        size = content.seek(0, os.SEEK_END)
        content.seek(0)
        output.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{size:<10}`\n".encode("ascii"))
        while data := content.read(COPY_BYTES):
            output.write(data)
        output.write(b"\n" * (size % 2))
