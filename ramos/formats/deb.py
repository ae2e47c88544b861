"""Debian's packages: read, verify, unpack; `pack` and `rewrite` come from deb_pack.

Owns: the three members of the ar archive that is a package. Refuses: format versions other than
2.x, members out of order, compressions that Debian does not use. Invariants: whatever the bytes
are, the only error is a RamosError that names the package; `unpack` writes only below its
directory.

    debian-binary          "2.0"
    control.tar[.gz|.xz|.zst]   control, md5sums, conffiles, the maintainer scripts
    data.tar[.gz|.xz|.zst]      the files

A package carries no signature of its own. What vouches for it is its sha256 in an index that the
signed Release file names: `verify_package` compares with that.
"""

import contextlib
import lzma
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

from ramos.errors import RamosError
from ramos.formats.ar import ArMember, Range, list_members
from ramos.formats.archive import (
    CHUNK_BYTES,
    HARDLINK,
    GzipMember,
    Member,
    Stream,
    read_tar,
    refuse,
)
from ramos.formats.deb_package import SCRIPTS, Package, describe, parse_fields
from ramos.formats.sandbox import Limits, clean_name, unpack_members
from ramos.linux.fs import hash_file
from ramos.linux.run import started

MAX_CONTROL_BYTES = 16 << 20
XZ_MEMORY_BYTES = 256 << 20


class _XzMember:
    """The content of one xz stream that ends where the member ends."""

    def __init__(self, file: Range, label: str) -> None:
        self._file = file
        self._label = label
        self._lzma = lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES)

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        while not self._lzma.eof:
            data = self._file.read(CHUNK_BYTES) if self._lzma.needs_input else b""
            if self._lzma.needs_input and not data:
                refuse(self._label, "it ends in the middle of its data (truncated)")
            try:
                content = self._lzma.decompress(data, size)
            except lzma.LZMAError as error:
                refuse(self._label, f"damaged compressed data ({error})")
            if content:
                return content
        if self._lzma.unused_data.strip(b"\0") or self._file.read(1):
            refuse(self._label, "bytes follow the end of its data")
        return b""


class _ZstdOutput:
    """What the zstd program prints; its end counts only with exit status 0."""

    def __init__(self, output: IO[bytes], wait: Callable[[], int], label: str) -> None:
        self._output = output
        self._wait = wait
        self._label = label

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        data = self._output.read(size)
        if not data and size and self._wait() != 0:
            refuse(self._label, "damaged or truncated compressed data (zstd)")
        return data


class _Capped:
    """A stream that is refused when it gives more than a package of its size can hold."""

    def __init__(self, stream: Stream, label: str, limit_bytes: int) -> None:
        self._stream = stream
        self._label = label
        self._left = limit_bytes
        self._limit_mib = limit_bytes >> 20

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            refuse(self._label, f"it unpacks to more than {self._limit_mib} MiB (a bomb)")
        return data


def read_package(path: Path) -> Package:
    """Read what a package says about itself. Nothing is verified yet."""
    try:
        with path.open("rb") as file:
            return _read_package(file, path)
    except OSError as error:
        raise RamosError("cannot read package", path, error.strerror or error) from error


def verify_package(
    path: Path,
    *,
    sha256: str | None = None,
    size_bytes: int | None = None,
    name: str | None = None,
    version: str | None = None,
    arch: str | None = None,
) -> Package:
    """Read a package that is, byte for byte, the one that a signed index names."""
    if size_bytes is not None and path.stat().st_size != size_bytes:
        reason = f"the index says {size_bytes} bytes, this has {path.stat().st_size}"
        raise untrusted(path.name, reason)
    if sha256 is not None and (found := hash_file(path)) != sha256:
        raise untrusted(path.name, f"the index says sha256 {sha256}, this is {found}")
    package = read_package(path)
    wanted = (("name", name), ("version", version))
    for key, value in wanted:
        if value is not None and getattr(package, key) != value:
            raise untrusted(package.label, f"its {key} should be {value}")
    if arch is not None and package.arch not in (arch, "all"):
        raise untrusted(package.label, f"it is for {package.arch}, this system is {arch}")
    return package


def untrusted(label: str, reason: str) -> RamosError:
    """The error for something that must not be used."""
    hint = "Run 'apt-get update' and try again; the mirror may have been changing."
    return RamosError("cannot trust", label, reason, "Nothing of it was used", hint)


def read_members(package: Package) -> Iterator[tuple[Member, IO[bytes] | None]]:
    """Its files, in order, with their content; the `.` entry of the root is passed over."""
    with package.path.open("rb") as file, _open_member(file, package.data, package.label) as data:
        for member, content in read_tar(data, package.label):
            name = clean_name(package.label, member.name)
            link = member.link
            if member.kind == HARDLINK:
                link = clean_name(package.label, link)
            if name:
                yield replace(member, name=name, link=link), content


def unpack(
    package: Package,
    directory: Path,
    *,
    limits: Limits | None = None,
    owners: bool | None = None,
) -> list[str]:
    """Write a package's files below an empty directory; the names, in order."""
    capped = (limits or Limits()).cap_ratio(package.data.size_bytes)
    return unpack_members(
        package.label, read_members(package), directory, limits=capped, owners=owners
    )


def _read_package(file: IO[bytes], path: Path) -> Package:
    label = path.name
    members = list_members(file, label)
    names = [member.name for member in members if not member.name.startswith("_")]
    if names[:1] != ["debian-binary"] or len(names) < 3:
        refuse(label, "it is not a Debian package")
    version = Range(file, members[0]).read(64)
    if not version.startswith(b"2."):
        refuse(label, f"its format version is {version.strip()[:20]!r}, known is 2.0")
    control = members[1]
    data = next(member for member in members if member.name == names[2])
    if control.name.partition(".tar")[0] != "control" or data.name.partition(".tar")[0] != "data":
        refuse(label, f"its members are {', '.join(names)}")
    entries = _read_control(file, control, label)
    if "control" not in entries:
        refuse(label, "there is no control file in it")
    fields = parse_fields(entries.pop("control").decode("utf-8", "surrogateescape"), label)
    scripts = {name: entries.pop(name) for name in SCRIPTS if name in entries}
    return replace(describe(fields, scripts, entries, label), path=path, data=data)


def _read_control(file: IO[bytes], control: ArMember, label: str) -> dict[str, bytes]:
    if control.size_bytes > MAX_CONTROL_BYTES:
        refuse(label, "its control part is too large")
    entries: dict[str, bytes] = {}
    with _open_member(file, control, label, MAX_CONTROL_BYTES) as stream:
        for member, content in read_tar(stream, label):
            name = clean_name(label, member.name)
            if name in entries:
                refuse(label, f"it holds {name!r} twice")
            if content is not None:
                entries[name] = content.read()
    return entries


@contextlib.contextmanager
def _open_member(
    file: IO[bytes], member: ArMember, label: str, limit_bytes: int | None = None
) -> Iterator[Stream]:
    """The decompressed bytes of a member, never more than its size allows."""
    limit = limit_bytes or Limits().cap_ratio(member.size_bytes).size_bytes
    ending = member.name.partition(".tar")[2]
    source = Range(file, member)
    if ending == ".zst":
        with _open_zstd(source, label) as stream:
            yield _Capped(stream, label, limit)
        return
    yield _Capped(_find_stream(ending, source, label), label, limit)


def _find_stream(ending: str, source: Range, label: str) -> Stream:
    if ending == ".gz":
        return GzipMember(cast(IO[bytes], source), label)
    if ending == ".xz":
        return _XzMember(source, label)
    if ending:
        refuse(label, f"it is compressed in a way that is not known: {ending}")
    return source


@contextlib.contextmanager
def _open_zstd(source: Range, label: str) -> Iterator[Stream]:
    """Python has no zstd before 3.14: the program reads a copy, for a pipe has no end of member."""
    with tempfile.TemporaryFile() as copy:
        while data := source.read(CHUNK_BYTES):
            copy.write(data)
        copy.seek(0)
        argv = ["zstd", "--decompress", "--quiet", "--stdout"]
        with (
            Path(os.devnull).open("wb") as null,
            started(argv, stdin=copy, stderr=null) as process,
        ):
            assert process.stdout is not None
            yield _ZstdOutput(process.stdout, process.wait, label)
