"""The index of what was saved: what could have changed unnoticed counts as changed."""

import io

import pytest

from ramos.layers.index import IndexWriter, Saved, read_index

CTIME_NS = 1_000_000


@pytest.mark.parametrize(
    ("window", "certain"), [((-2, -1), True), ((-1, 0), False), ((0, 1), False), ((1, 2), True)]
)
def test_a_change_within_the_clocks_tick_is_not_missed(
    window: tuple[int, int], certain: bool
) -> None:
    """A file that changed in the tick of the snapshot may change again with the same times."""
    file = io.BytesIO()
    writer = IndexWriter(file, *(CTIME_NS + offset for offset in window))
    writer.add(Saved(b"file", 1, 2, b"8 bytes!"), CTIME_NS)
    writer.finish()
    file.seek(0)
    (saved,) = read_index(file)
    assert (saved.fingerprint == b"8 bytes!") == certain
