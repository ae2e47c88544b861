"""Making Alpine packages (format v2) that apk 2.14 and 3.0 install without --allow-untrusted.

Owns: how the three members of a package are written, from a directory or from another package.
Refuses: what the format cannot hold (sizes and owners beyond octal fields, devices, hard links to
what was left out). Invariants: every directory stands before what is in it; every file carries its
checksum; `size` is at least 1 when there is anything (0 would install nothing, silently); the same
input gives the same bytes.
"""

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

from ramos.errors import RamosError
from ramos.formats.apk_package import (
    SCRIPTS,
    Package,
    change_info,
    compute_identity,
    describe,
)
from ramos.formats.apk_sign import Signature, sign
from ramos.formats.archive import (
    CHECKSUM_KEY,
    CHUNK_BYTES,
    DIRECTORY,
    FILE,
    HARDLINK,
    SYMLINK,
    XATTR_PREFIX,
    Member,
)
from ramos.formats.selection import (
    Item,
    Rewriting,
    list_parents,
    select_members,
    walk_tree,
)
from ramos.linux.fs import TEMPORARY_SUFFIX, publish

SPOOL_BYTES = 1 << 20
MAX_OWNER = 0o7777777
MAX_FILE_BYTES = 0o77777777777
TYPES = {
    FILE: tarfile.REGTYPE,
    DIRECTORY: tarfile.DIRTYPE,
    SYMLINK: tarfile.SYMTYPE,
    HARDLINK: tarfile.LNKTYPE,
}


def pack(
    package: Package, directory: Path, output: Path, key: Path, *, mtime: int | None = None
) -> Package:
    """Pack a directory under a package's name, fields and scripts, and sign it.

    Everything belongs to root, except where files below `directory` have another owner and we are
    root; with `mtime` every file gets that time.
    """
    return _write(package, _add_checksums(walk_tree(directory, mtime)), output, key)


def rewrite(package: Package, output: Path, key: Path, change: Rewriting) -> Package:
    """Write a package anew with some of its files, fields and scripts changed, and sign it."""
    scripts = {**package.scripts, **change.scripts}
    fields = dict(change.fields)
    if not scripts.get("trigger"):
        fields["triggers"] = None
    info = change_info(package.info, fields)
    kept = {name: script for name, script in scripts.items() if script is not None}
    changed = replace(describe(info, kept, package.label), path=package.path)
    entries = select_members(package.label, package.read_members(), change.keep)
    return _write(changed, entries, output, key)


def _add_checksums(entries: Iterable[Item]) -> Iterator[Item]:
    for member, content in entries:
        checksum = hash_content(content) if content else None
        yield replace(member, checksum=checksum), content


def _write(package: Package, entries: Iterator[Item], output: Path, key: Path) -> Package:
    """Write data, then control (which holds the hash of data), then the signature of control."""
    temporary = output.with_name(output.name + TEMPORARY_SUFFIX)
    try:
        with tempfile.TemporaryFile(dir=output.parent) as data:
            installed_bytes, count = _write_data(package.label, entries, data)
            minimum = 1 if count or package.scripts else 0
            size = str(max(installed_bytes, minimum))
            changes = {"size": size, "datahash": _hash_from_start(data)}
            info = change_info(package.info, changes)
            control = _compress(_make_control(info, package.scripts))
            signature = _render_signature(sign(control, key))
            with temporary.open("wb") as file:
                file.write(signature + control)
                data.seek(0)
                while chunk := data.read(CHUNK_BYTES):
                    file.write(chunk)
                end = file.tell()
        publish(temporary, output)
    except OSError as error:
        raise RamosError("cannot pack", output, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    offset = len(signature) + len(control)
    return replace(
        describe(info, package.scripts, package.label),
        identity=compute_identity(control),
        path=output,
        control=control,
        data_offset=offset,
        data_bytes=end - offset,
    )


def _hash_from_start(file: IO[bytes]) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _compress(content: bytes) -> bytes:
    """One gzip member without a name or time, so that the same content gives the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def _make_cut_tar(entries: Mapping[str, tuple[bytes, int]]) -> bytes:
    """A tar without its end: the three members of a package make up one archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, (content, mode) in entries.items():
            header = tarfile.TarInfo(name)
            header.size, header.mode, header.uname, header.gname = (
                len(content),
                mode,
                "root",
                "root",
            )
            tar.addfile(header, io.BytesIO(content))
        length = tar.offset
    return buffer.getvalue()[:length]


def _make_control(info: str, scripts: Mapping[str, bytes]) -> bytes:
    entries = {".PKGINFO": (info.encode("utf-8", "surrogateescape"), 0o644)}
    entries |= {f".{name}": (scripts[name], 0o755) for name in SCRIPTS if name in scripts}
    return _make_cut_tar(entries)


def sign_member(content: Mapping[str, bytes], key: Path) -> bytes:
    """A signed gzip member of some small files, behind its signature: what an index is."""
    member = _compress(_make_tar(content))
    return _render_signature(sign(member, key)) + member


def _make_tar(content: Mapping[str, bytes]) -> bytes:
    cut = _make_cut_tar({name: (data, 0o644) for name, data in content.items()})
    return cut + bytes(2 * tarfile.BLOCKSIZE)


def _render_signature(signature: Signature) -> bytes:
    return _compress(_make_cut_tar({signature.member_name: (signature.data, 0o644)}))


def _write_data(label: str, entries: Iterable[Item], output: IO[bytes]) -> tuple[int, int]:
    """Write the data member; what it takes when installed, and the count of its entries."""
    size_bytes = count = 0
    written: set[str] = set()
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=output, mtime=0) as packed,
        tarfile.open(
            fileobj=packed,
            mode="w",
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar,
    ):
        for member, content in entries:
            if any(parent not in written for parent in list_parents(member.name)):
                raise _impossible(label, member, "its directory does not stand before it")
            written.add(member.name)
            _add_entry(label, tar, member, content)
            tar.members = []  # type: ignore[attr-defined]  # tarfile would remember every entry
            size_bytes += member.size
            count += 1
    return size_bytes, count


def _add_entry(label: str, tar: tarfile.TarFile, member: Member, content: IO[bytes] | None) -> None:
    """Write one entry; the checksum stands before the content, so it may need reading first."""
    if member.kind == FILE and content is not None:
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            if member.checksum is None:
                shutil.copyfileobj(content, spool, CHUNK_BYTES)
                spool.seek(0)
                member = replace(member, checksum=hash_content(spool))
                content = spool
            hashed = _Sha1Reader(content)
            tar.addfile(_make_header(label, member), hashed)
            if hashed.digest.hexdigest() != member.checksum:
                raise _impossible(label, member, "its content is not what its checksum says")
        return
    if member.kind == SYMLINK:
        target = hashlib.sha1(os.fsencode(member.link), usedforsecurity=False)
        member = replace(member, checksum=target.hexdigest())
    tar.addfile(_make_header(label, member))


class _Sha1Reader(io.RawIOBase):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha1(usedforsecurity=False)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def hash_content(file: IO[bytes]) -> str:
    """The sha1 that the format wants before a file's content; the file is at its start again."""
    digest = hashlib.sha1(usedforsecurity=False)
    while data := file.read(CHUNK_BYTES):
        digest.update(data)
    file.seek(0)
    return digest.hexdigest()


def _make_header(label: str, member: Member) -> tarfile.TarInfo:
    """A header with nothing that apk cannot read: octal fields only, names in PAX records."""
    if member.kind not in TYPES:
        raise _impossible(label, member, f"a package cannot hold a {member.kind}")
    if max(member.uid, member.gid) > MAX_OWNER or member.size > MAX_FILE_BYTES:
        raise _impossible(label, member, "its owner or size is too large for the format")
    header = tarfile.TarInfo(member.name)
    header.type = TYPES[member.kind]
    header.mode, header.uid, header.gid = member.mode, member.uid, member.gid
    header.uname, header.gname = member.uname, member.gname
    header.size = member.size if member.kind == FILE else 0
    header.mtime = min(max(member.mtime, 0), MAX_FILE_BYTES)
    header.linkname = member.link
    header.pax_headers = {
        f"{XATTR_PREFIX}{key}": value.decode("utf-8", "surrogateescape")
        for key, value in sorted(member.xattrs.items())
    }
    if member.checksum is not None and member.kind in (FILE, SYMLINK):
        header.pax_headers[CHECKSUM_KEY] = member.checksum
    return header


def _impossible(label: str, member: Member, reason: str) -> RamosError:
    return RamosError("cannot pack", label, f"{member.name!r}: {reason}", "Nothing was written")
