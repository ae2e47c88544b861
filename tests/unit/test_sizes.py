"""Sizes are written and read one way."""

import pytest

from ramos.errors import UsageError
from ramos.sizes import MIB, format_count, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512", 512), ("4k", 4096), ("64M", 64 * MIB), ("2GiB", 2 << 30), ("1TB", 1 << 40)],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "-1M", "1.5G", "4 X", "G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10 * MIB - 1, "10.0 MiB"),
        (MIB - 1, "1.0 MiB"),
        (1536 * MIB, "1.5 GiB"),
        (1023 << 30, "1023.0 GiB"),
        (5000 << 40, "5000.0 TiB"),
        (3.5, "4 B"),
    ],
)
def test_sizes_as_people_read_them(size: float, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "file", "0 files"),
        (1, "entry", "1 entry"),
        (2, "entry", "2 entries"),
        (5, "day", "5 days"),
    ],
)
def test_counts_as_people_read_them(count: int, noun: str, text: str) -> None:
    assert format_count(count, noun) == text
