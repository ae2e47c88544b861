"""Sizes and counts as people write and read them: powers of 1024, one unit system everywhere.

Owns: both directions, and the plural. Refuses: the kernel's and the tools' own notations.
"""

import re

from ramos.errors import UsageError

KIB, MIB = 1 << 10, 1 << 20
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
SIZE_PATTERN = re.compile(r"([0-9]+)([KMGT]?)(i?B)?", re.IGNORECASE)
FACTORS = {"": 1, "K": KIB, "M": MIB, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes of a size as people write it: 512M, 4G, 2GiB."""
    match = SIZE_PATTERN.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            "not a size", text, "it is a number with K, M, G or T", hint="For example: 4G."
        )
    return int(match[1]) * FACTORS[match[2].upper()]


def format_size(size_bytes: float) -> str:
    """A size for people: 512 B, 3.4 MiB, 14.9 GiB."""
    size, units = size_bytes, iter(UNITS)
    unit = next(units)
    while round(size, 1) >= 1024 and unit != UNITS[-1]:
        size, unit = size / 1024, next(units)
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def format_count(count: int, noun: str) -> str:
    """A number of things for people: 1 file, 2 files, 3 entries."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("ry") else f"{count} {noun}s"
