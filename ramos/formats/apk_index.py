"""The index of an Alpine repository (v2): what packages there are, and which file each one is.

Owns: `APKINDEX.tar.gz`, read, verified, made and signed. Refuses: unsigned or damaged indexes,
records that lack a name, version or identity, names that are paths. Invariant: an index that
`read_index` returns was signed, as a whole, by one of the keys it was given.

    signature   gzip(cut tar of .SIGN.<type>.<key>)      over the bytes of the next member
    index       gzip(tar of DESCRIPTION and APKINDEX)    records of `letter:value` lines
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RamosError
from ramos.formats import apk_version
from ramos.formats.apk import read_package, read_signed
from ramos.formats.apk_pack import sign_member
from ramos.formats.apk_package import NAME, VERSION, Package
from ramos.formats.apk_sign import untrusted, verify
from ramos.formats.archive import refuse
from ramos.linux.fs import TEMPORARY_SUFFIX, publish

INDEX_NAME = "APKINDEX.tar.gz"
MAX_INDEX_BYTES = 256 << 20
IDENTITY = re.compile(r"Q1[A-Za-z0-9+/]{27}=")
# Letters of a record, in the order in which apk writes them, and the fields they come from.
LETTERS = {
    "A": "arch",
    "S": "",
    "I": "size",
    "T": "pkgdesc",
    "U": "url",
    "L": "license",
    "o": "origin",
    "m": "maintainer",
    "t": "builddate",
    "c": "commit",
    "k": "provider_priority",
    "D": "depend",
    "p": "provides",
    "i": "install_if",
}


@dataclass(frozen=True)
class IndexedPackage:
    """One package of an index; `fields` holds the record by its letters."""

    name: str
    version: str
    identity: str
    size_bytes: int
    depends: tuple[str, ...]
    provides: tuple[str, ...]
    fields: Mapping[str, str]

    @property
    def file_name(self) -> str:
        """The name of its file, beside the index."""
        return f"{self.name}-{self.version}.apk"


@dataclass(frozen=True)
class Index:
    """An index: what it says it is, and its packages by name, newest first."""

    path: Path
    description: str
    entries: Mapping[str, tuple[IndexedPackage, ...]]

    def find_newest(self, name: str) -> IndexedPackage | None:
        """The newest version of a package, if there is one."""
        return next(iter(self.entries.get(name, ())), None)

    def need_newest(self, name: str) -> IndexedPackage:
        """The newest version of a package that has to be there."""
        entry = self.find_newest(name)
        if entry is None:
            raise RamosError("cannot find package", name, f"{self.path} does not name it")
        return entry


def read_index(path: Path, keys: Path | None, label: str = "") -> Index:
    """Read an index that one of the `keys` signed (None: one that was just made here).

    `label` is what errors call it: where it came from.
    """
    label = label or str(path)
    try:
        with path.open("rb") as file:
            signatures, raw, entries = read_signed(file, label, MAX_INDEX_BYTES)
            if file.read(1):
                refuse(label, "bytes follow the end of the index")
    except OSError as error:
        raise RamosError("cannot read index", path, error) from error
    if keys is not None:
        verify(label, signatures, raw, keys)
    if "APKINDEX" not in entries:
        raise untrusted(label, "there is no APKINDEX in it")
    description = entries.get("DESCRIPTION", b"").decode("utf-8", "replace")
    text = entries["APKINDEX"].decode("utf-8", "surrogateescape")
    return Index(path, description, _group(_parse_record(r, label) for r in _split(text)))


def _split(text: str) -> Iterable[str]:
    return (record for record in text.split("\n\n") if record.strip())


def _group(entries: Iterable[IndexedPackage]) -> dict[str, tuple[IndexedPackage, ...]]:
    groups: dict[str, list[IndexedPackage]] = {}
    for entry in entries:
        groups.setdefault(entry.name, []).append(entry)
    return {
        name: tuple(sorted(group, key=lambda e: apk_version.sort_key(e.version), reverse=True))
        for name, group in groups.items()
    }


def _parse_record(record: str, label: str) -> IndexedPackage:
    fields: dict[str, str] = {}
    for line in record.strip("\n").split("\n"):
        letter, separator, value = line.partition(":")
        if not separator or len(letter) != 1 or letter in fields:
            refuse(label, f"the line {line[:60]!r} is no field of a record")
        fields[letter] = value
    name, version, identity = (fields.get(letter, "") for letter in "PVC")
    if not (NAME.fullmatch(name) and VERSION.fullmatch(version) and IDENTITY.fullmatch(identity)):
        refuse(label, f"a record without a name, version or identity: {record.strip()[:60]!r}")
    if not re.fullmatch(r"\d{1,18}", fields.get("S", "")):
        refuse(label, f"{name} {version} has no size")
    return IndexedPackage(
        name=name,
        version=version,
        identity=identity,
        size_bytes=int(fields["S"]),
        depends=tuple(fields.get("D", "").split()),
        provides=tuple(fields.get("p", "").split()),
        fields=fields,
    )


def render_record(package: Package, arch: str) -> str:
    """A package's record, as apk writes it; apk looks for the file in a directory named `arch`."""
    size = str(package.path.stat().st_size)
    values = {letter: package.fields.get(key, "") for letter, key in LETTERS.items()}
    values |= {"S": size, "I": str(package.installed_bytes), "A": arch or package.arch}
    head = f"C:{package.identity}\nP:{package.name}\nV:{package.version}\n"
    return head + "".join(f"{letter}:{value}\n" for letter, value in values.items() if value)


def make_index(
    packages: Iterable[Path], output: Path, key: Path, description: str, *, arch: str = ""
) -> Index:
    """Write and sign the index of some package files; the same packages give the same bytes.

    `arch` is the directory that they lie in: packages for every architecture (noarch) lie with the
    others, and apk 2.14 finds them only if their records say so.
    """
    found = sorted((read_package(path) for path in packages), key=lambda p: (p.name, p.path.name))
    for package in found:
        if package.path.name != package.file_name:
            reason = f"apk would look for it as {package.file_name}"
            raise RamosError("cannot index", package.path, reason, "Nothing was written")
    text = "".join(f"{render_record(package, arch)}\n" for package in found)
    content = {
        "DESCRIPTION": description.encode(),
        "APKINDEX": text.encode("utf-8", "surrogateescape"),
    }
    temporary = output.with_name(output.name + TEMPORARY_SUFFIX)
    try:
        temporary.write_bytes(sign_member(content, key))
        publish(temporary, output)
    except OSError as error:
        raise RamosError("cannot write index", output, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return read_index(output, None)
