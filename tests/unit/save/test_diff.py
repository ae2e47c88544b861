"""What two states say of each other: kinds of changes, and sizes before and after."""

import os
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
