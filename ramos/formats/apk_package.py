"""What an Alpine package (format v2) says about itself.

Owns: `.PKGINFO`, the scripts, and the identity by which an index knows a package. Refuses:
packages without a name, version, architecture or data hash, and ones that say these twice.
Invariant: reading `.PKGINFO` and changing some of its fields leaves all other lines as they were.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from ramos.formats.apk_sign import Signature
from ramos.formats.archive import HARDLINK, GzipMember, Member, Stream, read_tar, refuse
from ramos.formats.sandbox import clean_name
from ramos.sizes import format_size

SCRIPTS = (
    "pre-install",
    "post-install",
    "pre-deinstall",
    "post-deinstall",
    "pre-upgrade",
    "post-upgrade",
    "trigger",
)
REPEATED = ("depend", "provides", "replaces")
SINGLE = ("pkgname", "pkgver", "arch", "size", "datahash", "triggers", "install_if")
NEEDED = ("pkgname", "pkgver", "arch")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
VERSION = re.compile(r"[A-Za-z0-9_.+~-]{1,200}")
MAX_SCRIPT_BYTES = 256 << 10


@dataclass(frozen=True)
class Package:
    """An Alpine package; `fields` holds all of `.PKGINFO`, repeated lines joined by spaces."""

    name: str
    version: str
    arch: str
    depends: tuple[str, ...]
    provides: tuple[str, ...]
    triggers: tuple[str, ...]
    fields: Mapping[str, str]
    scripts: Mapping[str, bytes]
    info: str
    # Where it lies; an empty identity is a package that is still to be packed.
    identity: str = ""
    path: Path = Path()
    signatures: tuple[Signature, ...] = field(default=(), repr=False)
    control: bytes = field(default=b"", repr=False)
    data_offset: int = 0
    data_bytes: int = 0

    @property
    def label(self) -> str:
        """Name and version, as in the name of its file."""
        return f"{self.name}-{self.version}"

    @property
    def file_name(self) -> str:
        """The name that its file has in a repository."""
        return f"{self.label}.apk"

    @property
    def installed_bytes(self) -> int:
        """What it says it takes when installed. 0 is a package that only has dependencies."""
        return int(self.fields.get("size", "0"))

    def read_members(self) -> Iterator[tuple[Member, IO[bytes] | None]]:
        """Its files, in order, with their content; the data is checked against its hash."""
        with self.path.open("rb") as file:
            file.seek(self.data_offset)
            hashed = _HashedFile(file)
            stream: Stream = GzipMember(hashed, self.label)
            for member, content in read_tar(stream, self.label):
                name = clean_name(self.label, member.name)
                is_hardlink = member.kind == HARDLINK
                link = clean_name(self.label, member.link) if is_hardlink else member.link
                # apk takes no name with a leading dot for a file to install.
                if name and not member.name.startswith("."):
                    yield replace(member, name=name, link=link), content
            if hashed.digest.hexdigest() != self.fields["datahash"]:
                refuse(self.label, "its data does not match its own hash")

    @property
    def members(self) -> Iterator[Member]:
        """Its files, in order, without their content."""
        return (member for member, _ in self.read_members())


class _HashedFile:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def compute_identity(control: bytes) -> str:
    """The identity of a package: of its compressed control part, so signing does not change it."""
    digest = hashlib.sha1(control, usedforsecurity=False).digest()
    return "Q1" + base64.b64encode(digest).decode()


def parse_info(text: str, label: str) -> dict[str, str]:
    """The fields of a `.PKGINFO`, repeated ones joined by spaces."""
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        key, separator, value = line.partition(" = ")
        if not separator or line.startswith("#"):
            continue
        if key in fields and key in SINGLE:
            refuse(label, f"its .PKGINFO says {key} twice")
        fields[key] = f"{fields[key]} {value}" if key in fields else value
    for key in NEEDED:
        if not fields.get(key):
            refuse(label, f"its .PKGINFO does not say {key}")
    if not NAME.fullmatch(fields["pkgname"]) or not VERSION.fullmatch(fields["pkgver"]):
        refuse(label, f"{fields['pkgname']!r} {fields['pkgver']!r} is no name and version")
    if not re.fullmatch(r"[A-Za-z0-9_]{1,40}", fields["arch"]):
        refuse(label, f"{fields['arch']!r} is no architecture")
    if not re.fullmatch(r"\d{1,18}", fields.get("size", "0")):
        refuse(label, f"{fields['size']!r} is no size")
    return fields


def describe(info: str, scripts: Mapping[str, bytes], label: str) -> Package:
    """A package from the text of its `.PKGINFO` and its scripts; it has no data yet."""
    fields = parse_info(info, label)
    for name, script in scripts.items():
        if name not in SCRIPTS:
            refuse(label, f"{name!r} is no kind of script")
        if len(script) > MAX_SCRIPT_BYTES:
            refuse(label, f"its {name} script is larger than {format_size(MAX_SCRIPT_BYTES)}")
    return Package(
        name=fields["pkgname"],
        version=fields["pkgver"],
        arch=fields["arch"],
        depends=tuple(fields.get("depend", "").split()),
        provides=tuple(fields.get("provides", "").split()),
        triggers=tuple(fields.get("triggers", "").split()),
        fields=fields,
        scripts=dict(scripts),
        info=info,
    )


def make_package(
    fields: Mapping[str, str | Sequence[str]], scripts: Mapping[str, bytes] | None = None
) -> Package:
    """A new package, to be given to `pack`; a list as value makes one line for each word."""
    lines: list[str] = []
    for key, value in fields.items():
        values = [value] if isinstance(value, str) else value
        words = [word for text in values for word in text.split()] if key in REPEATED else values
        lines += [f"{key} = {word}" for word in words]
    label = str(fields.get("pkgname", "a package without a name"))
    return describe("".join(f"{line}\n" for line in lines), scripts or {}, label)


def change_info(info: str, changes: Mapping[str, str | None]) -> str:
    """`.PKGINFO` with some fields changed or (None) dropped; all other lines stay as they are."""
    lines, seen = [], set()
    for line in info.rstrip("\n").split("\n"):
        key, separator, _ = line.partition(" = ")
        if not separator or line.startswith("#") or key not in changes:
            lines.append(line)
        elif key not in seen:
            seen.add(key)
            lines += _render_field(key, changes[key])
    for key in (key for key in changes if key not in seen):
        lines += _render_field(key, changes[key])
    return "".join(f"{line}\n" for line in lines)


def _render_field(key: str, value: str | None) -> list[str]:
    if value is None:
        return []
    if key in REPEATED:
        return [f"{key} = {word}" for word in value.split()]
    return [f"{key} = {value}"]
