"""Packages of any bytes, also those that dpkg-deb would never write."""

from collections.abc import Iterable
from pathlib import Path

MAGIC = b"2.0\n"


def write_ar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """An archive of these members, as a package is one."""
    data = b"!<arch>\n"
    for name, content in members:
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        data += content + b"\n" * (len(content) % 2)
    path.write_bytes(data)
    return path
