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
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
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
from ramos.fs import TEMPORARY_SUFFIX, publish

SPOOL_BYTES = 1 << 20
MAX_OWNER = 0o7777777
MAX_FILE_BYTES = 0o77777777777
# ACLs and labels of the machine we build on are no part of a package.
UNPACKED_XATTRS = ("system.", "security.selinux")
TYPES = {
    FILE: tarfile.REGTYPE,
    DIRECTORY: tarfile.DIRTYPE,
    SYMLINK: tarfile.SYMTYPE,
    HARDLINK: tarfile.LNKTYPE,
}
Entry = tuple[Member, IO[bytes] | None]


def _keep_all(_name: str) -> bool:
    return True


@dataclass(frozen=True)
class Change:
    """What `rewrite` does to a package: which names stay, and which fields and scripts change.

    A value of None drops the field or script. Dropping the `trigger` script drops `triggers` too.
    """

    keep: Callable[[str], bool] = _keep_all
    fields: Mapping[str, str | None] = field(default_factory=dict)
    scripts: Mapping[str, bytes | None] = field(default_factory=dict)


def pack(
    package: Package, directory: Path, output: Path, key: Path, *, mtime: int | None = None
) -> Package:
    """Pack a directory under a package's name, fields and scripts, and sign it.

    Everything belongs to root, except where files below `directory` have another owner and we are
    root; with `mtime` every file gets that time.
    """
    return _write(package, _walk(directory, mtime), output, key)


def rewrite(package: Package, output: Path, key: Path, change: Change) -> Package:
    """Write a package anew with some of its files, fields and scripts changed, and sign it."""
    scripts = {**package.scripts, **change.scripts}
    fields = dict(change.fields)
    if not scripts.get("trigger"):
        fields["triggers"] = None
    info = change_info(package.info, fields)
    kept = {name: script for name, script in scripts.items() if script is not None}
    changed = replace(describe(info, kept, package.label), path=package.path)
    return _write(changed, _select(package, change.keep), output, key)


def _select(package: Package, keep: Callable[[str], bool]) -> Iterator[Entry]:
    """The members that stay, each behind the directories that it needs."""
    directories: dict[str, Member] = {}
    written: set[str] = set()
    for member, content in package.read_members():
        if member.kind == DIRECTORY:
            directories[member.name] = member
        if not keep(member.name):
            continue
        if member.kind == HARDLINK and member.link not in written:
            reason = f"the hard link {member.name!r} stays, but not {member.link!r}"
            raise RamosError("cannot pack", package.label, reason, "Nothing was written")
        for parent in _list_parents(member.name):
            if parent not in written:
                written.add(parent)
                yield directories.get(parent, Member(parent, DIRECTORY, 0o755)), None
        if member.name not in written:
            written.add(member.name)
            yield member, content


def _list_parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _walk(directory: Path, mtime: int | None) -> Iterator[Entry]:
    """Everything below a directory, sorted; the second name of a file is a hard link."""
    seen: dict[tuple[int, int], str] = {}
    for path in sorted(_list_below(directory), key=lambda path: os.fsencode(path)):
        name = str(path.relative_to(directory))
        state = path.lstat()
        member = _describe_file(path, name, state, mtime)
        if member.kind == FILE and state.st_nlink > 1:
            first = seen.setdefault((state.st_dev, state.st_ino), name)
            if first != name:
                member = replace(member, kind=HARDLINK, link=first, size=0, xattrs={})
        if member.kind == FILE:
            with path.open("rb") as content:
                yield replace(member, checksum=hash_content(content)), content
        else:
            yield member, None


def _list_below(directory: Path) -> Iterator[Path]:
    for folder, directories, files in os.walk(directory):
        yield from (Path(folder, name) for name in directories + files)


def _describe_file(path: Path, name: str, state: os.stat_result, mtime: int | None) -> Member:
    kinds = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}
    kind = kinds.get(stat.S_IFMT(state.st_mode))
    if kind is None:
        raise RamosError("cannot pack", path, "a package holds files, directories and links only")
    owned = os.geteuid() == 0
    return Member(
        name=name,
        kind=kind,
        mode=0o777 if kind == SYMLINK else stat.S_IMODE(state.st_mode),
        uid=state.st_uid if owned else 0,
        gid=state.st_gid if owned else 0,
        uname="root" if not owned or state.st_uid == 0 else "",
        gname="root" if not owned or state.st_gid == 0 else "",
        size=state.st_size if kind == FILE else 0,
        mtime=max(0, int(state.st_mtime)) if mtime is None else mtime,
        link=_read_link(path) if kind == SYMLINK else "",
        xattrs={
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in sorted(os.listxattr(path, follow_symlinks=False))
            if not key.startswith(UNPACKED_XATTRS)
        },
    )


def _read_link(path: Path) -> str:
    return os.readlink(path)  # noqa: PTH115  # a Path would tidy up the target


def _write(package: Package, entries: Iterator[Entry], output: Path, key: Path) -> Package:
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
        raise RamosError("cannot pack", output, error.strerror or error) from error
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


def _write_data(label: str, entries: Iterable[Entry], output: IO[bytes]) -> tuple[int, int]:
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
            if any(parent not in written for parent in _list_parents(member.name)):
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
