"""What a Debian package says about itself, and the indexes of a flat repository: paragraphs.

Owns: the control file and what lies beside it, the names a package has, `Packages` and `Release`.
Refuses: packages without a name, version or architecture, fields that stand twice, and files.
Invariants: changing some fields of a control file leaves all others as they were, in their order;
the same packages give the same `Packages`; `Release` differs only by its date.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from ramos.formats.archive import refuse

SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config", "triggers")
NEEDED = ("Package", "Version", "Architecture")
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,199}")
VERSION = re.compile(r"([0-9]{1,9}:)?[0-9A-Za-z][0-9A-Za-z.+~:-]{0,199}")
ARCH = re.compile(r"[a-z0-9-]{1,40}")
FIELD = re.compile(r"([!-9;-~]+):[ \t]*(.*)")
ORIGIN = "RAMOS"
LABEL = "ramos-stick"
Listed = tuple[str, Mapping[str, str], int, str]


@dataclass(frozen=True)
class Package:
    """A Debian package; `extras` are the control files that are neither control nor scripts."""

    name: str
    version: str
    arch: str
    depends: tuple[str, ...]
    provides: tuple[str, ...]
    fields: Mapping[str, str]
    scripts: Mapping[str, bytes]
    extras: Mapping[str, bytes]
    # Where it lies; an empty path is a package that is still to be built.
    path: Path = Path()

    @property
    def label(self) -> str:
        """Name and version, as in the name of its file."""
        return f"{self.name}_{self.version}"

    @property
    def file_name(self) -> str:
        """The name that its file has in a repository."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.arch}.deb"

    @property
    def installed_bytes(self) -> int:
        """What it says it takes when installed."""
        return int(self.fields.get("Installed-Size", "0")) * 1024


def parse_fields(text: str, label: str) -> dict[str, str]:
    """The fields of one paragraph; a value keeps its continuation lines."""
    fields: dict[str, str] = {}
    key = ""
    for line in text.rstrip("\n").split("\n"):
        if line.startswith((" ", "\t")) and key:
            fields[key] += f"\n{line}"
            continue
        match = FIELD.fullmatch(line)
        if match is None:
            refuse(label, f"its control file has a line that is no field: {line[:60]!r}")
        key = match[1]
        if key.lower() in (known.lower() for known in fields):
            refuse(label, f"its control file says {key} twice")
        fields[key] = match[2].rstrip()
    return fields


def render_fields(fields: Mapping[str, str]) -> str:
    """A paragraph of the given fields, in their order."""
    lines = (
        f"{key}: {value}" if value[:1] != "\n" else f"{key}:{value}"
        for key, value in fields.items()
    )
    return "".join(f"{line}\n" for line in lines)


def change_fields(fields: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """The fields with some changed or (None) dropped; new ones stand at the end."""
    merged = {**fields, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def split_relations(value: str) -> tuple[str, ...]:
    """The relations of a field such as Depends."""
    return tuple(part for part in (" ".join(p.split()) for p in value.split(",")) if part)


def describe(
    fields: Mapping[str, str],
    scripts: Mapping[str, bytes],
    extras: Mapping[str, bytes],
    label: str,
) -> Package:
    """A package from its control file's fields and what lies beside it; it has no data yet."""
    for key in NEEDED:
        if not fields.get(key):
            refuse(label, f"its control file does not say {key}")
    name, version, arch = (fields[key] for key in NEEDED)
    patterns = ((NAME, name), (VERSION, version), (ARCH, arch))
    if not all(pattern.fullmatch(value) for pattern, value in patterns):
        refuse(label, f"{name!r} {version!r} {arch!r} is no name, version and architecture")
    if not re.fullmatch(r"[0-9]{1,15}", fields.get("Installed-Size", "0")):
        refuse(label, f"{fields['Installed-Size']!r} is no size")
    depends = (*_relations(fields, "Pre-Depends"), *_relations(fields, "Depends"))
    return Package(
        name=name,
        version=version,
        arch=arch,
        depends=depends,
        provides=tuple(_relations(fields, "Provides")),
        fields=dict(fields),
        scripts=dict(scripts),
        extras=dict(extras),
    )


def _relations(fields: Mapping[str, str], key: str) -> Iterator[str]:
    yield from split_relations(fields.get(key, ""))


def change_package(
    package: Package, fields: Mapping[str, str | None], scripts: Mapping[str, bytes | None]
) -> Package:
    """A package that is still to be built: one with some fields and scripts changed or dropped."""
    kept = {k: script for k, script in {**package.scripts, **scripts}.items() if script is not None}
    changed = change_fields(package.fields, fields)
    return describe(changed, kept, package.extras, package.label)


def render_packages(entries: Iterable[Listed]) -> bytes:
    """One paragraph for each (file name, control fields, size, sha256)."""
    paragraphs = []
    for name, fields, size_bytes, sha256 in entries:
        extra = {"Filename": f"./{name}", "Size": str(size_bytes), "SHA256": sha256}
        paragraphs.append(render_fields({**fields, **extra}))
    return "\n".join(paragraphs).encode("utf-8", "surrogateescape")


def render_release(files: Mapping[str, bytes], time: int, *, origin: str = ORIGIN) -> bytes:
    """What the signature covers: the sums of the indexes."""
    fields = {
        "Origin": origin,
        "Label": LABEL if origin == ORIGIN else origin,
        "Suite": "ramos",
        "Date": formatdate(time, usegmt=True).replace("GMT", "UTC"),
        "SHA256": "".join(
            f"\n {hashlib.sha256(data).hexdigest()} {len(data)} {name}"
            for name, data in sorted(files.items())
        ),
    }
    return render_fields(fields).encode("ascii")
