"""Firmware as one tree: what there was, without what is gone, under what is new."""

from pathlib import Path

from ramos.packages.trees import merge_firmware


def test_firmware_that_is_gone_already_is_in_nobodys_way(tmp_path: Path) -> None:
    source = tmp_path / "new"
    source.mkdir()
    (source / "b.bin").write_text("new")
    tree = tmp_path / "tree"
    merge_firmware(None, ["a.bin", "b.bin"], [source], tree, "usr/lib")
    assert [path.name for path in (tree / "usr/lib/firmware").iterdir()] == ["b.bin"]
