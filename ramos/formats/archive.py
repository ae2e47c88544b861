"""Reading the tar archives inside packages, strictly.

Owns: what a member of an archive is, and the streams that archives come in. Refuses: damaged
headers (tarfile would end there without a word), sparse files, sizes given twice, types that no
package has, headers as large as files. Invariant: whatever the bytes are, the only error is a
RamosError that names the package, and nothing is written anywhere.
"""

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, NoReturn, Protocol

from ramos.errors import RamosError
from ramos.sizes import format_size

CHUNK_BYTES = 1 << 16
MAX_HEADER_BYTES = 1 << 20
# No file of a package is larger; tarfile would skip a huge one at the end of its stream for ever.
MAX_MEMBER_BYTES = 8 << 30
MAX_READS_AT_END = 64
XATTR_PREFIX = "SCHILY.xattr."
CHECKSUM_KEY = "APK-TOOLS.checksum.SHA1"

FILE, DIRECTORY, SYMLINK, HARDLINK, DEVICE = "file", "directory", "symlink", "hardlink", "device"
KINDS = {
    tarfile.REGTYPE: FILE,
    tarfile.AREGTYPE: FILE,
    tarfile.DIRTYPE: DIRECTORY,
    tarfile.SYMTYPE: SYMLINK,
    tarfile.LNKTYPE: HARDLINK,
    tarfile.CHRTYPE: DEVICE,
    tarfile.BLKTYPE: DEVICE,
    tarfile.FIFOTYPE: DEVICE,
}
EXTENDED_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
BROKEN = (
    tarfile.TarError,
    zlib.error,
    ArithmeticError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


class Stream(Protocol):
    """Something that gives bytes, in order, until it gives none."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`."""
        ...


@dataclass(frozen=True)
class Member:
    """One entry of an archive. `name` and `link` are exactly as stored."""

    name: str
    kind: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    uname: str = "root"
    gname: str = "root"
    size: int = 0
    mtime: int = 0
    link: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    checksum: str | None = None


def refuse(label: str, reason: object, hint: str = "") -> NoReturn:
    """Give up on a package, by name."""
    raise RamosError("cannot read package", label, reason, "Nothing of it was used", hint)


class GzipMember:
    """The content of exactly one gzip member that ends where the file ends."""

    def __init__(self, file: Stream, label: str) -> None:
        self._file = file
        self._label = label
        self._inflate = zlib.decompressobj(31)
        self._reads_at_end = 0

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        while not self._inflate.eof:
            data = self._inflate.unconsumed_tail or self._file.read(CHUNK_BYTES)
            if not data:
                refuse(self._label, "it ends in the middle of its data (truncated)")
            try:
                content = self._inflate.decompress(data, size)
            except zlib.error as error:
                refuse(self._label, f"damaged compressed data ({error})")
            if content:
                return content
        if self._inflate.unused_data or self._file.read(1):
            refuse(self._label, "bytes follow the end of its data")
        self._reads_at_end += 1
        if self._reads_at_end > MAX_READS_AT_END:
            refuse(self._label, "its archive ends in the middle of an entry")
        return b""


def read_gzip_member(file: IO[bytes], label: str, limit_bytes: int) -> tuple[bytes, bytes]:
    """One small gzip member, as (compressed bytes, content); the file stands behind it then."""
    inflate = zlib.decompressobj(31)
    raw, content = bytearray(), bytearray()
    while not inflate.eof:
        data = file.read(CHUNK_BYTES)
        if not data:
            refuse(label, "it ends in the middle of its headers (truncated)")
        raw += data
        try:
            content += inflate.decompress(data, limit_bytes + 1 - len(content))
        except zlib.error as error:
            refuse(label, f"not a package, or damaged ({error})")
        if len(content) > limit_bytes or inflate.unconsumed_tail:
            refuse(label, f"its headers are larger than {format_size(limit_bytes)}")
    rest = len(inflate.unused_data)
    file.seek(-rest, 1)
    return bytes(raw[: len(raw) - rest]), bytes(content)


class _DamagedHeader(Exception):
    """A header that tarfile would take for the end of the archive."""


class _StrictHeader(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictHeader":
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.count(0) == len(buf):
                raise
            raise _DamagedHeader(f"damaged archive header ({error})") from None
        most = MAX_HEADER_BYTES if header.type in EXTENDED_TYPES else MAX_MEMBER_BYTES
        if not 0 <= header.size <= most:
            raise _DamagedHeader("an archive header with an absurd size")
        if header.type not in KINDS and header.type not in EXTENDED_TYPES:
            raise _DamagedHeader(f"an entry of type {header.type!r}")
        return header


def read_tar(stream: Stream, label: str) -> Iterator[tuple[Member, IO[bytes] | None]]:
    """Every member in order, with its content; the content is valid until the next member."""
    try:
        yield from _read_tar(stream, label)
    except _DamagedHeader as error:
        refuse(label, error)
    except BROKEN as error:
        refuse(label, f"damaged archive ({error or type(error).__name__})")


def _read_tar(stream: Stream, label: str) -> Iterator[tuple[Member, IO[bytes] | None]]:
    source: Any = stream  # tarfile needs no more than `read`
    with tarfile.open(
        fileobj=source,
        mode="r|",
        tarinfo=_StrictHeader,
        encoding="utf-8",
        errors="surrogateescape",
    ) as tar:
        for header in tar:
            tar.members = []  # type: ignore[attr-defined]  # a stream is not read twice
            member = _describe(header, label)
            yield member, tar.extractfile(header) if member.kind == FILE else None
    while rest := stream.read(CHUNK_BYTES):
        if rest.count(0) != len(rest):
            refuse(label, "bytes follow the end of its archive")


def _describe(header: tarfile.TarInfo, label: str) -> Member:
    if any(key.startswith("GNU.sparse") for key in header.pax_headers):
        refuse(label, f"{header.name!r} is stored as a sparse file")
    if "size" in header.pax_headers:
        # apk and dpkg go by the header's own size: what they would install is not what is read.
        refuse(label, f"{header.name!r} has a second size (PAX)")
    values = header.pax_headers.items()
    xattrs = {
        key.removeprefix(XATTR_PREFIX): value.encode("utf-8", "surrogateescape")
        for key, value in values
        if key.startswith(XATTR_PREFIX)
    }
    checksum = header.pax_headers.get(CHECKSUM_KEY)
    return Member(
        name=header.name,
        kind=KINDS[header.type],
        mode=header.mode & 0o7777,
        uid=header.uid,
        gid=header.gid,
        uname=header.uname,
        gname=header.gname,
        size=header.size if header.isreg() else 0,
        mtime=int(header.mtime),
        link=header.linkname,
        xattrs=xattrs,
        checksum=checksum.lower() if checksum else None,
    )
