"""The walk of a tree: what cannot be read costs itself, and is told once."""

import errno
import os
from pathlib import Path

import pytest

from ramos.layers import walk
from ramos.layers.walk import LeftOut, walk_unknown


def test_a_directory_that_cannot_be_read_is_left_out_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("a/file", "bad/lost", "c/file"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    read = walk._read_directory

    def fail(folder: bytes) -> "list[os.DirEntry[bytes]]":
        if folder.endswith(b"/bad"):
            raise OSError(errno.EIO, "said the kernel")
        return read(folder)

    monkeypatch.setattr(walk, "_read_directory", fail)
    found = [
        (entry.path, isinstance(entry, LeftOut))
        for entry in walk_unknown(os.fsencode(tmp_path), None, None)
    ]
    kept = [(b"a", False), (b"a/file", False), (b"bad", True), (b"c", False), (b"c/file", False)]
    assert found == kept
