"""Making Debian packages that dpkg installs like any other.

Owns: how the members of a package are written, from a directory or from another package. Refuses:
what the format cannot hold (devices, extended attributes), hard links to what was left out.
Invariants: every directory stands before what is in it; md5sums and conffiles name exactly what
is there; the same input gives the same bytes.
"""

import gzip
import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from ramos.errors import RamosError
from ramos.formats.ar import write_members
from ramos.formats.archive import CHUNK_BYTES, DIRECTORY, FILE, HARDLINK, SYMLINK, Member
from ramos.formats.deb import read_members, read_package
from ramos.formats.deb_package import Package, change_fields, describe, render_fields
from ramos.fs import TEMPORARY_SUFFIX, publish

TYPES = {
    FILE: tarfile.REGTYPE,
    DIRECTORY: tarfile.DIRTYPE,
    SYMLINK: tarfile.SYMTYPE,
    HARDLINK: tarfile.LNKTYPE,
}
GZIP_LEVEL = 6
Entry = tuple[Member, IO[bytes] | None]


def _keep_all(_name: str) -> bool:
    return True


@dataclass(frozen=True)
class Change:
    """What `rewrite` does to a package: which names stay, and which fields and scripts change.

    A value of None drops the field or script.
    """

    keep: Callable[[str], bool] = _keep_all
    fields: Mapping[str, str | None] = field(default_factory=dict)
    scripts: Mapping[str, bytes | None] = field(default_factory=dict)


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
    return _write(changed, _select(package, change.keep), output)


def pack(package: Package, directory: Path, output: Path, *, mtime: int | None = None) -> Package:
    """Pack a directory under a package's name, fields and scripts; all of it belongs to root."""
    return _write(package, _walk(directory, mtime), output)


def _select(package: Package, keep: Callable[[str], bool]) -> Iterator[Entry]:
    """The members that stay, each behind the directories that it needs."""
    directories: dict[str, Member] = {}
    written: set[str] = set()
    for member, content in read_members(package):
        if member.kind == DIRECTORY:
            directories[member.name] = member
        if not keep(member.name) or member.name in written:
            continue
        if member.kind == HARDLINK:
            member = replace(member, link=member.link.removeprefix("./"))
            if member.link not in written:
                reason = f"the hard link {member.name!r} stays, but not {member.link!r}"
                raise RamosError("cannot pack", package.label, reason, "Nothing was written")
        for parent in _list_parents(member.name):
            if parent not in written:
                written.add(parent)
                yield directories.get(parent, Member(parent, DIRECTORY, 0o755)), None
        written.add(member.name)
        yield member, content


def _list_parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _walk(directory: Path, mtime: int | None) -> Iterator[Entry]:
    """Everything below a directory, sorted; the second name of a file is a hard link."""
    seen: dict[tuple[int, int], str] = {}
    for path in sorted(directory.rglob("*"), key=os.fsencode):
        name = str(path.relative_to(directory))
        state = path.lstat()
        kinds = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}
        kind = kinds.get(stat.S_IFMT(state.st_mode), "")
        if not kind:
            reason = "a package holds files, directories and links only"
            raise RamosError("cannot pack", path, reason)
        first = seen.setdefault((state.st_dev, state.st_ino), name) if kind == FILE else name
        member = Member(
            name=name,
            kind=kind if first == name else HARDLINK,
            mode=0o777 if kind == SYMLINK else stat.S_IMODE(state.st_mode),
            size=state.st_size if kind == FILE and first == name else 0,
            mtime=max(0, int(state.st_mtime)) if mtime is None else mtime,
            link=str(path.readlink()) if kind == SYMLINK else ("" if first == name else first),
        )
        if member.kind == FILE:
            with path.open("rb") as content:
                yield member, content
        else:
            yield member, None


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
