"""Making Debian packages that dpkg installs like any other.

Owns: how the members of a package are written, from a directory or from another package. Refuses:
what the format cannot hold (devices, extended attributes), hard links to what was left out.
Invariants: every directory stands before what is in it; md5sums and conffiles name exactly what
is there; the same input gives the same bytes.
"""

import gzip
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ramos.errors import RamosError
from ramos.formats.ar import write_members
from ramos.formats.archive import CHUNK_BYTES, DIRECTORY, FILE, HARDLINK, SYMLINK, Member
from ramos.formats.deb import read_members, read_package
from ramos.formats.deb_package import Package, change_fields, describe, render_fields
from ramos.formats.selection import Change, Entry, select_members, walk_tree
from ramos.linux.fs import TEMPORARY_SUFFIX, publish

TYPES = {
    FILE: tarfile.REGTYPE,
    DIRECTORY: tarfile.DIRTYPE,
    SYMLINK: tarfile.SYMTYPE,
    HARDLINK: tarfile.LNKTYPE,
}
GZIP_LEVEL = 6


@dataclass(frozen=True)
class _Payload:
    """What was written as data: the sums of its files, and the space that they take."""

    md5: dict[str, str]
    kibibytes: int


def rewrite(package: Package, output: Path, change: Change) -> Package:
    """Write a package anew with some of its files, fields and scripts changed."""
    scripts = {**package.scripts, **change.scripts}
    kept = {name: script for name, script in scripts.items() if script is not None}
    fields = change_fields(package.fields, change.fields)
    changed = describe(fields, kept, package.extras, package.label)
    entries = select_members(package.label, read_members(package), change.keep)
    return _write(changed, entries, output)


def pack(package: Package, directory: Path, output: Path, *, mtime: int | None = None) -> Package:
    """Pack a directory under a package's name, fields and scripts; all of it belongs to root."""
    return _write(package, walk_tree(directory, mtime), output)


def _write(package: Package, entries: Iterator[Entry], output: Path) -> Package:
    temporary = output.with_name(output.name + TEMPORARY_SUFFIX)
    try:
        with (
            tempfile.TemporaryFile(dir=output.parent) as data,
            tempfile.TemporaryFile(dir=output.parent) as control,
        ):
            payload = _write_data(entries, data)
            _write_control(package, payload, control)
            with temporary.open("wb") as file:
                magic = io.BytesIO(b"2.0\n")
                write_members(
                    file,
                    [
                        ("debian-binary", magic),
                        ("control.tar.gz", control),
                        ("data.tar.gz", data),
                    ],
                )
        publish(temporary, output)
    except OSError as error:
        raise RamosError("cannot pack", output, error.strerror or error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return read_package(output)


def _write_data(entries: Iterator[Entry], output: IO[bytes]) -> _Payload:
    """The archive of the files. dpkg reads GNU's long names, and no PAX headers."""
    md5: dict[str, str] = {}
    kibibytes = 0
    with _open_tar(output) as tar:
        tar.addfile(_make_header(Member(".", DIRECTORY, 0o755)))
        for member, content in entries:
            kibibytes += max(1, -(-member.size // 1024))
            if content is None:
                tar.addfile(_make_header(member))
                continue
            digest = _Digest(content)
            tar.addfile(_make_header(member), digest)
            md5[member.name] = digest.md5.hexdigest()
    return _Payload(md5, kibibytes)


class _Digest:
    """A file that is summed up while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.md5 = hashlib.md5(usedforsecurity=False)

    def read(self, size: int = CHUNK_BYTES, /) -> bytes:
        data = self._file.read(size)
        self.md5.update(data)
        return data


def _open_tar(output: IO[bytes]) -> "_GzipTar":
    return _GzipTar(output)


class _GzipTar:
    """A reproducible tar.gz: no name and no time in its header."""

    def __init__(self, output: IO[bytes]) -> None:
        self._gzip = gzip.GzipFile("", "wb", GZIP_LEVEL, output, mtime=0)
        self._tar = tarfile.open(  # noqa: SIM115
            fileobj=self._gzip,
            mode="w",
            format=tarfile.GNU_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def __enter__(self) -> tarfile.TarFile:
        return self._tar

    def __exit__(self, *error: object) -> None:
        self._tar.close()
        self._gzip.close()


def _make_header(member: Member) -> tarfile.TarInfo:
    info = tarfile.TarInfo("./" if member.name == "." else f"./{member.name}")
    info.type = TYPES[member.kind]
    info.mode = member.mode
    info.uid, info.gid = member.uid, member.gid
    info.uname, info.gname = member.uname, member.gname
    info.size = member.size
    info.mtime = member.mtime
    info.linkname = f"./{member.link}" if member.kind == HARDLINK else member.link
    return info


def _write_control(package: Package, payload: _Payload, output: IO[bytes]) -> None:
    fields = change_fields(package.fields, {"Installed-Size": str(payload.kibibytes)})
    extras = {name: data for name, data in package.extras.items() if name != "md5sums"}
    if "conffiles" in extras:
        extras["conffiles"] = _filter_conffiles(extras["conffiles"], payload)
    sums = "".join(f"{md5}  {name}\n" for name, md5 in sorted(payload.md5.items()))
    control = render_fields(fields)
    files = {
        "control": control.encode("utf-8", "surrogateescape"),
        "md5sums": sums.encode("utf-8", "surrogateescape"),
        **extras,
    }
    with _open_tar(output) as tar:
        tar.addfile(_make_header(Member(".", DIRECTORY, 0o755)))
        for name, data in sorted({**files, **package.scripts}.items()):
            if data:
                mode = 0o755 if name in package.scripts and name != "triggers" else 0o644
                member = Member(name, FILE, mode, size=len(data))
                tar.addfile(_make_header(member), io.BytesIO(data))


def _filter_conffiles(data: bytes, payload: _Payload) -> bytes:
    """Only those lines whose file is there; `remove-on-upgrade` lines name files that are not."""
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    kept = [
        line
        for line in lines
        if line.startswith("remove-on-upgrade ") or line.strip().lstrip("/") in payload.md5
    ]
    return "".join(f"{line}\n" for line in kept).encode("utf-8", "surrogateescape")
