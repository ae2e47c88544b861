"""The generation file: what one saved state consists of.

Owns: the text format, in both directions. Refuses: files and clocks (text in, dataclass out).
Invariants: parse(render(g)) == g; a text whose `end` line does not match is no generation; no
reader, sh included, can be confused by a message, for it is percent-encoded.

The format (initramfs-hooks/ reads the same in sh):

    ramos-generation=1
    generation=42
    parent=41
    created=1763720000
    kernel=6.1.0-28-amd64
    reason=user
    message=before%20the%20upgrade
    object=rootfs 83886080 <verity digest or ->
    <sha256>  rootfs.squashfs
    object=layer 4096 <verity digest or ->
    <sha256>  upperfs/layers/<sha256>.squashfs
    end=<sha256 of all lines above>

Base images come first (rootfs, modules, firmware), then the layers, bottom first, each followed
by its ACL sidecar where it has one (kind `acl`). Lines of the form `<sha256>  <path>` can be fed
to `sha256sum -c`.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast
from urllib.parse import quote, unquote

from ramos import layout
from ramos.errors import DamagedError, RamosError
from ramos.sizes import format_size

FORMAT_VERSION = 1
MAX_FILE_BYTES = 65536
MAX_MESSAGE_CHARS = 1000
KINDS = ("rootfs", "modules", "firmware", "layer", "acl")
HEADER = ("generation", "parent", "created", "kernel", "reason", "message")
PATH_PATTERN = re.compile(r"[A-Za-z0-9_+~][A-Za-z0-9._+~-]*(/[A-Za-z0-9_+~][A-Za-z0-9._+~-]*)*")
DIGEST_PATTERN = re.compile(r"[0-9a-f]{64}")
OBJECT_PATTERN = re.compile(r"object=([a-z]+) (0|[1-9][0-9]{0,17}) ([0-9a-f]{64}|-)")
WORD_PATTERN = re.compile(r"[A-Za-z0-9._+~-]*")
# Six digits, or more where the number needs them.
# The reason of a generation that shows what its parent does, with fewer layers.
COMPACTED = "compact"
NAME_PATTERN = re.compile(r"(?!000000)[0-9]{6}|[1-9][0-9]{6,8}")
LAST_NUMBER = 999_999_999
ENCODED_PATTERN = re.compile(r"[A-Za-z0-9._~%-]*")

Kind = Literal["rootfs", "modules", "firmware", "layer", "acl"]


@dataclass(frozen=True)
class StoredFile:
    """One immutable file on persist that a generation is made of."""

    kind: Kind
    path: str
    size_bytes: int
    sha256: str
    verity: str = ""


@dataclass(frozen=True)
class Generation:
    """One saved state: an ordered list of layers on a base."""

    number: int
    parent: int
    created: int
    kernel: str
    reason: str
    message: str
    files: tuple[StoredFile, ...]

    @property
    def base(self) -> tuple[StoredFile, ...]:
        """The base images."""
        return tuple(file for file in self.files if file.kind not in ("layer", "acl"))

    @property
    def layers(self) -> tuple[StoredFile, ...]:
        """The layers, bottom first."""
        return tuple(file for file in self.files if file.kind == "layer")

    @property
    def saved(self) -> tuple[StoredFile, ...]:
        """The layers and their ACL sidecars: all that a commit made."""
        return tuple(file for file in self.files if file.kind in ("layer", "acl"))


def render(generation: Generation) -> str:
    """Write a generation as the text of its file."""
    lines = [
        f"ramos-generation={FORMAT_VERSION}",
        f"generation={generation.number}",
        f"parent={generation.parent}",
        f"created={generation.created}",
        f"kernel={generation.kernel}",
        f"reason={generation.reason}",
        f"message={quote(generation.message, safe='', errors='surrogateescape')}",
    ]
    for file in generation.files:
        lines.append(f"object={file.kind} {file.size_bytes} {file.verity or '-'}")
        lines.append(f"{file.sha256}  {file.path}")
    body = "".join(f"{line}\n" for line in lines)
    return f"{body}end={hashlib.sha256(body.encode('ascii')).hexdigest()}\n"


def plain_word(text: str) -> str:
    """A word that the format can hold: every other character becomes an underscore."""
    return re.sub(r"[^A-Za-z0-9._+~-]", "_", text)


def seal(generation: Generation) -> bytes:
    """The bytes of its file, once the strict reader has taken them for this very generation."""
    name = Path(layout.generation_path(generation.number)).name
    try:
        data = render(generation).encode("ascii")
        if parse(data, name) != generation:
            raise _damaged(name, "it is read as another one than was written")
    except (RamosError, UnicodeError) as error:
        state = "Nothing was written: no boot would have taken it"
        raise RamosError("cannot write generation", name, error, state) from error
    return data


def read_end(data: bytes) -> str:
    """The checksum that ends a file, if it is right: no two files have the same."""
    body, _, end = data.rpartition(b"end=")
    digest = hashlib.sha256(body).hexdigest()
    return digest if end == digest.encode("ascii") + b"\n" else ""


def parse(data: bytes, name: str) -> Generation:
    """Read the bytes of a generation file; `name` is its file name, for messages and as a check."""
    lines = _checked_lines(data, name)
    header = _parse_header(lines[1 : len(HEADER) + 1], name)
    files = _parse_files(lines[len(HEADER) + 1 :], name)
    number = int(header["generation"])
    if not number:
        raise _damaged(name, "0 is no generation")
    if name != f"{number:0{layout.GENERATION_DIGITS}d}":
        raise _damaged(name, f"it says it is generation {number}")
    return Generation(
        number=number,
        parent=int(header["parent"]),
        created=int(header["created"]),
        kernel=header["kernel"],
        reason=header["reason"],
        message=unquote(header["message"], errors="surrogateescape"),
        files=files,
    )


def _damaged(name: str, reason: str) -> DamagedError:
    return DamagedError(
        "cannot read generation", name, reason, "It is treated as if it did not exist"
    )


def _checked_lines(data: bytes, name: str) -> list[str]:
    """The lines between the version and `end`, once size, version and checksum are right."""
    if len(data) > MAX_FILE_BYTES:
        raise _damaged(name, f"it is larger than {format_size(MAX_FILE_BYTES)}")
    first = data.split(b"\n", 1)[0]
    if re.fullmatch(rb"ramos-generation=[0-9]{1,9}", first) is None:
        raise _damaged(name, "it is not a generation file")
    if first != b"ramos-generation=%d" % FORMAT_VERSION:
        version = first.split(b"=")[1].decode("ascii")
        raise _damaged(name, f"its format {version} is newer than this RAMOS knows")
    body, _, _ = data.rpartition(b"end=")
    if not body.endswith(b"\n") or not read_end(data):
        raise _damaged(name, "its checksum does not match")
    try:
        return body.decode("ascii").split("\n")[:-1]
    except UnicodeDecodeError:
        raise _damaged(name, "it holds bytes that are not ASCII") from None


def _parse_header(lines: list[str], name: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in lines]
    if tuple(key for key, _, _ in pairs) != HEADER:
        raise _damaged(name, f"its header is not {', '.join(HEADER)}")
    header = {key: value for key, _, value in pairs}
    for key in ("generation", "parent", "created"):
        if (
            re.fullmatch(r"-?[0-9]{1,18}" if key == "created" else r"[0-9]{1,9}", header[key])
            is None
        ):
            raise _damaged(name, f"{key} is not a number: {header[key]!r}")
    for key in ("kernel", "reason"):
        if WORD_PATTERN.fullmatch(header[key]) is None:
            raise _damaged(name, f"{key} is not a word: {header[key]!r}")
    if ENCODED_PATTERN.fullmatch(header["message"]) is None:
        raise _damaged(name, "message is not percent-encoded")
    return header


def _parse_files(lines: list[str], name: str) -> tuple[StoredFile, ...]:
    if len(lines) % 2:
        raise _damaged(name, "an object line has no checksum line")
    files = [_parse_file(lines[i], lines[i + 1], name) for i in range(0, len(lines), 2)]
    if [f.kind for f in files if f.kind in ("rootfs", "modules", "firmware")] != [
        f.kind for f in files[: sum(f.kind not in ("layer", "acl") for f in files)]
    ]:
        raise _damaged(name, "a base image stands above a layer")
    return tuple(files)


def _parse_file(head: str, line: str, name: str) -> StoredFile:
    match = OBJECT_PATTERN.fullmatch(head)
    digest, _, path = line.partition("  ")
    if match is None or match[1] not in KINDS:
        raise _damaged(name, f"not an object line: {head!r}")
    if DIGEST_PATTERN.fullmatch(digest) is None or PATH_PATTERN.fullmatch(path) is None:
        raise _damaged(name, f"not a checksum line: {line!r}")
    verity = "" if match[3] == "-" else match[3]
    return StoredFile(cast(Kind, match[1]), path, int(match[2]), digest, verity)
