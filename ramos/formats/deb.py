"""Debian's packages by way of dpkg-deb: read, verify, unpack, build.

Owns: what is asked of dpkg-deb, and how much of what it says is believed. Refuses: packages that
unpack to more than one of their size can hold, and whatever dpkg-deb does not read to its end.
Invariants: whatever the bytes are, the only error is a RamosError that names the package; `unpack`
writes only below its directory, for dpkg-deb itself writes nothing; the same tree gives the same
bytes.

A package carries no signature of its own. What vouches for it is its sha256 in an index that the
signed Release file names: `verify_package` compares with that. What dpkg would read is what is read
here, for the same program reads it.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from ramos.errors import RamosError
from ramos.formats.archive import CHUNK_BYTES, HARDLINK, Member, Stream, read_tar, refuse
from ramos.formats.deb_package import (
    SCRIPTS,
    Package,
    change_fields,
    describe,
    parse_fields,
    render_fields,
)
from ramos.formats.sandbox import Limits, clean_name, unpack_members
from ramos.linux.fs import TEMPORARY_SUFFIX, hash_file, publish
from ramos.linux.run import Process, run, started

CONTROL, FILES = "--ctrl-tarfile", "--fsys-tarfile"
CONTROL_DIR = "DEBIAN"
MAX_CONTROL_BYTES = 16 << 20
MAX_COMPLAINT_BYTES = 4096
# Who complains is no news.
COMPLAINT = re.compile(r"^dpkg-deb[^:]*: (error: )?")


class _Part:
    """An archive that dpkg-deb prints; its end counts only with exit status 0."""

    def __init__(self, process: Process, said: IO[bytes], label: str, limit_bytes: int) -> None:
        self._process = process
        self._said = said
        self._label = label
        self._left = limit_bytes
        self._limit_mib = limit_bytes >> 20

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        self._left -= len(data)
        if self._left < 0:
            refuse(self._label, f"it unpacks to more than {self._limit_mib} MiB (a bomb)")
        if not data and size and self._process.wait() != 0:
            self._said.seek(0)
            first = self._said.readline(MAX_COMPLAINT_BYTES).decode("utf-8", "replace")
            refuse(self._label, COMPLAINT.sub("", first.strip()))
        return data


def read_package(path: Path) -> Package:
    """Read what a package says about itself. Nothing is verified yet."""
    label = path.name
    entries: dict[str, bytes] = {}
    with _open_part(path, CONTROL, label, MAX_CONTROL_BYTES) as stream:
        for member, content in read_tar(stream, label):
            name = clean_name(label, member.name)
            if name in entries:
                refuse(label, f"it holds {name!r} twice")
            if content is not None:
                entries[name] = content.read()
    if "control" not in entries:
        refuse(label, "there is no control file in it")
    fields = parse_fields(entries.pop("control").decode("utf-8", "surrogateescape"), label)
    scripts = {name: entries.pop(name) for name in SCRIPTS if name in entries}
    return replace(describe(fields, scripts, entries, label), path=path)


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
    with _open_part(package.path, FILES, package.label, _limit(package).size_bytes) as stream:
        for member, content in read_tar(stream, package.label):
            name = clean_name(package.label, member.name)
            link = member.link
            if member.kind == HARDLINK:
                link = clean_name(package.label, link)
            if name:
                yield replace(member, name=name, link=link), content


def unpack(package: Package, directory: Path, *, owners: bool | None = None) -> list[str]:
    """Write a package's files below an empty directory; the names, in order."""
    members = read_members(package)
    return unpack_members(package.label, members, directory, limits=_limit(package), owners=owners)


def _limit(package: Package) -> Limits:
    return Limits().cap_ratio(package.path.stat().st_size)


@contextlib.contextmanager
def _open_part(path: Path, part: str, label: str, limit_bytes: int) -> Iterator[Stream]:
    """One of the two archives in a package."""
    if not path.is_file():
        refuse(label, "there is no such file")
    with (
        tempfile.TemporaryFile() as said,
        started(["dpkg-deb", part, path.absolute()], stderr=said) as process,
    ):
        yield _Part(process, said, label, limit_bytes)


def build(package: Package, tree: Path, output: Path) -> Package:
    """Build a directory of files under a package's name, fields and scripts."""
    temporary = output.with_name(output.name + TEMPORARY_SUFFIX)
    control = tree / CONTROL_DIR
    if control.exists() or control.is_symlink():
        raise RamosError("cannot build", package.label, f"it holds {CONTROL_DIR}", "Nothing stays")
    options = ["-Zgzip", *(["--root-owner-group"] if os.geteuid() else [])]
    try:
        newest = _write_control(package, tree, control)
        env = {"SOURCE_DATE_EPOCH": str(newest), "TMPDIR": str(output.parent)}
        run(["dpkg-deb", *options, "--build", tree, temporary], env=env)
        publish(temporary, output)
    except OSError as error:
        raise RamosError("cannot build", output, error.strerror or error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return read_package(output)


def _write_control(package: Package, tree: Path, control: Path) -> int:
    """All that dpkg-deb wants to know of a tree; the time of its newest file."""
    md5: dict[str, str] = {}
    newest = kibibytes = 0
    for path in sorted(tree.rglob("*")):
        state = path.lstat()
        plain = path.is_file() and not path.is_symlink()
        kibibytes += max(1, -(-state.st_size // 1024)) if plain else 1
        if plain:
            newest = max(newest, int(state.st_mtime))
            md5[str(path.relative_to(tree))] = _sum_up(path)
    fields = change_fields(package.fields, {"Installed-Size": str(kibibytes)})
    extras = {name: data for name, data in package.extras.items() if name != "md5sums"}
    if "conffiles" in extras:
        extras["conffiles"] = _filter_conffiles(extras["conffiles"], md5)
    sums = "".join(f"{digest}  {name}\n" for name, digest in md5.items())
    files = {"control": render_fields(fields).encode("utf-8", "surrogateescape")}
    files |= {"md5sums": os.fsencode(sums), **extras, **package.scripts}
    control.mkdir()
    control.chmod(0o755)
    for name, data in files.items():
        if data:
            (control / name).write_bytes(data)
            runs = name in package.scripts and name != "triggers"
            (control / name).chmod(0o755 if runs else 0o644)
    return newest


def _sum_up(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            digest.update(data)
    return digest.hexdigest()


def _filter_conffiles(data: bytes, present: dict[str, str]) -> bytes:
    """Only those lines whose file is there; `remove-on-upgrade` lines name files that are not."""
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    kept = [
        line
        for line in lines
        if line.startswith("remove-on-upgrade ") or line.strip().lstrip("/") in present
    ]
    return "".join(f"{line}\n" for line in kept).encode("utf-8", "surrogateescape")
