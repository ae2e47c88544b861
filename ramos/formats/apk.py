"""Alpine's packages, format v2: read, verify, unpack; apk_pack writes them.

Owns: the three gzip members that are a package (signature, control, data). Refuses: anything that
apk itself would refuse or take differently than it reads here (no data hash, more than one data
member, fields given twice). Invariant: `verify_package` returns only for bytes that a given key
signed and whose data is what was signed; `unpack` writes only below its directory.

    signature   gzip(cut tar of .SIGN.<type>.<key>)      over the bytes of control
    control     gzip(cut tar of .PKGINFO and scripts)    its sha1 is the identity in the index
    data        gzip(tar of the files)                   its sha256 is `datahash` in .PKGINFO
"""

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import IO

from ramos.errors import RamosError
from ramos.formats.apk_package import SCRIPTS, Package, compute_identity, describe
from ramos.formats.apk_sign import Signature, parse_signature, untrusted, verify
from ramos.formats.archive import CHUNK_BYTES, read_gzip_member, read_tar, refuse
from ramos.formats.sandbox import Limits, unpack_members

MAX_CONTROL_BYTES = 4 << 20
GZIP_MAGIC = b"\x1f\x8b"
ADB_MAGIC = b"ADB"


def read_package(path: Path) -> Package:
    """Read what a package says about itself. Nothing is verified yet."""
    try:
        with path.open("rb") as file:
            return _read_package(file, path)
    except OSError as error:
        raise RamosError("cannot read package", path, error) from error


def read_signed(
    file: IO[bytes], label: str, limit_bytes: int
) -> tuple[tuple[Signature, ...], bytes, dict[str, bytes]]:
    """The signatures at the start of a file, if any, then the next member: (…, raw, entries)."""
    signatures: list[Signature] = []
    raw, entries = _read_entries(file, label, limit_bytes)
    if entries and next(iter(entries)).startswith(".SIGN."):
        found = (parse_signature(name, data) for name, data in entries.items())
        signatures = [signature for signature in found if signature]
        raw, entries = _read_entries(file, label, limit_bytes)
    return tuple(signatures), raw, entries


def _read_entries(file: IO[bytes], label: str, limit: int) -> tuple[bytes, dict[str, bytes]]:
    raw, content = read_gzip_member(file, label, limit)
    entries: dict[str, bytes] = {}
    for member, data in read_tar(io.BytesIO(content), label):
        if member.name in entries:
            refuse(label, f"it holds {member.name!r} twice")
        entries[member.name] = data.read() if data else b""
    return raw, entries


def _read_package(file: IO[bytes], path: Path) -> Package:
    magic = file.read(4)
    if magic.startswith(ADB_MAGIC):
        refuse(path.name, "it is a package of format v3", "Alpine's mirrors serve format v2.")
    if not magic.startswith(GZIP_MAGIC):
        refuse(path.name, "it is not an Alpine package")
    file.seek(0)
    signatures, control, entries = read_signed(file, path.name, MAX_CONTROL_BYTES)
    if ".PKGINFO" not in entries:
        refuse(path.name, "there is no .PKGINFO where it should be")
    scripts = {name: entries[f".{name}"] for name in SCRIPTS if f".{name}" in entries}
    info = entries[".PKGINFO"].decode("utf-8", "surrogateescape")
    package = describe(info, scripts, path.name)
    offset = file.tell()
    if "datahash" not in package.fields:
        refuse(package.label, "its .PKGINFO does not say datahash")
    return replace(
        package,
        identity=compute_identity(control),
        path=path,
        signatures=signatures,
        control=control,
        data_offset=offset,
        data_bytes=file.seek(0, io.SEEK_END) - offset,
    )


def verify_package(
    path: Path, keys: Path, *, identity: str | None = None, name: str | None = None
) -> Package:
    """Read a package that one of the `keys` signed; with `identity`, that the index names."""
    package = read_package(path)
    verify(package.label, package.signatures, package.control, keys)
    if identity is not None and package.identity != identity:
        reason = f"the index names {identity}, this is {package.identity}"
        raise untrusted(package.label, reason)
    if name is not None and package.name != name:
        raise untrusted(package.label, f"it should be {name}")
    if hash_data(package) != package.fields["datahash"]:
        raise untrusted(package.label, "its data does not match its signed hash (or is truncated)")
    return package


def hash_data(package: Package) -> str:
    """The sha256 of a package's data as it lies in its file."""
    digest = hashlib.sha256()
    with package.path.open("rb") as file:
        file.seek(package.data_offset)
        while data := file.read(CHUNK_BYTES):
            digest.update(data)
    return digest.hexdigest()


def unpack(
    package: Package,
    directory: Path,
    *,
    limits: Limits | None = None,
    owners: bool | None = None,
) -> list[str]:
    """Write a package's files below an empty directory; the names, in order."""
    capped = (limits or Limits()).cap_ratio(package.data_bytes)
    members = package.read_members()
    return unpack_members(package.label, members, directory, limits=capped, owners=owners)
