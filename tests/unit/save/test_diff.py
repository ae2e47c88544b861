"""What two states say of each other: kinds of changes, and sizes before and after."""

import os
import stat
from pathlib import Path

from ramos.save.diff import Change, compare_views


def test_each_kind_of_change_has_its_sizes(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    (before / "gone").write_text("12")
    (before / "grown").write_text("123")
    (before / "other").write_text("1234")
    (after / "grown").write_text("12345")
    (after / "other").symlink_to("grown")
    (after / "made").write_text("123456")
    found = list(compare_views([os.fsencode(before)], [os.fsencode(after)]))
    assert [(c.path, c.what, c.kind, c.size_before, c.size_after) for c in found] == [
        (b"gone", "deleted", "file", 2, 0),
        (b"grown", "changed", "file", 3, 5),
        (b"made", "added", "file", 0, 6),
        (b"other", "replaced", "symlink", 4, 0),
    ]
    assert found[3] == Change(b"other", "replaced", "symlink", 4, 0, ("file became symlink",))
    assert list(compare_views([os.fsencode(before)], [os.fsencode(before)])) == []


def make_deep(top: Path, depth: int) -> None:
    """Directories in directories; the eighteenth is beyond what can be saved."""
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 200, dir_fd=here)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)


def test_what_is_too_deep_is_named_where_it_is_new(tmp_path: Path) -> None:
    made, other = tmp_path / "made", tmp_path / "other"
    make_deep(made, 19)
    other.mkdir()
    deep, empty = os.fsencode(made), os.fsencode(other)
    found = [change for change in compare_views([empty], [deep]) if change.what == "too deep"]
    assert [len(change.path) for change in found] == [18 * 201 - 1]
    assert not [c for c in compare_views([deep], [empty]) if c.what == "too deep"]
    make_deep(tmp_path / "over", 17)
    over = os.fsencode(tmp_path / "over")
    assert not [c for c in compare_views([deep], [over, deep]) if c.what == "too deep"]


def test_a_deletion_that_both_know_is_none(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for layer in (before, after):
        layer.mkdir()
        os.mknod(layer / "gone", stat.S_IFCHR, os.makedev(0, 0))
    (after / "made").touch()
    found = [change.path for change in compare_views([os.fsencode(before)], [os.fsencode(after)])]
    assert found == [b"made"]
    (after / "gone").unlink()
    (after / "gone").touch()
    changes = compare_views([os.fsencode(before)], [os.fsencode(after)])
    assert [(c.path, c.what) for c in changes] == [(b"gone", "added"), (b"made", "added")]
