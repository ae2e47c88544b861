"""The indexes of a flat Debian repository, as text.

Owns: `Packages` and `Release`. Refuses: files and signatures. Invariant: the same packages give
the same `Packages`; `Release` differs only by its date.
"""

import hashlib
from collections.abc import Iterable, Mapping
from email.utils import formatdate

from ramos.formats.deb_package import render_fields

ORIGIN = "RAMOS"
LABEL = "ramos-stick"
Entry = tuple[str, Mapping[str, str], int, str]


def render_packages(entries: Iterable[Entry]) -> bytes:
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
