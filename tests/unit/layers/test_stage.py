"""Copying from a live tmpfs into the stage: everything that is there, as it is."""

import errno
import os
from pathlib import Path

import pytest

from ramos.layers.compare import find_differences
from ramos.layers.stage import Placer, copy_entry, list_data
from ramos.layers.walk import Delta


def test_a_copy_is_what_it_was_made_from(tmp_path: Path) -> None:
    top, stage = tmp_path / "top", tmp_path / "stage"
    (top / "a/b").mkdir(parents=True)
    (top / "a/file").write_bytes(os.urandom(200_000))
    (top / "a/file").chmod(0o640)
    for name in ("a/b/twin", "third"):
        os.link(top / "a/file", top / name)
    (top / "alone").write_text("one name")
    (top / "a/link").symlink_to("../alone")
    os.link(top / "a/link", top / "a/b/link", follow_symlinks=False)
    os.mkfifo(top / "fifo", 0o600)
    with (top / "sparse").open("wb") as file:
        file.seek(9 << 20)
        file.write(b"end")
    for path in (top / "a/file", top / "a/b", top / "a"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    stage.mkdir()
    placer = Placer(os.fsencode(top), os.fsencode(stage), Delta(), link=False)
    placer.place(os.fsencode(top), os.fsencode(stage), top.lstat())
    assert find_differences(top, stage) == []
    assert (stage / "sparse").stat().st_blocks < 100
    assert (stage / "alone").stat().st_ino != (top / "alone").stat().st_ino


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1644, 0o6711])
def test_special_bits_outlive_the_change_of_owner(tmp_path: Path, mode: int) -> None:
    """A chown takes setuid and setgid away: they are set after it."""
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(mode)
    source, target = os.fsencode(tmp_path / "program"), os.fsencode(tmp_path / "copy")
    copy_entry(source, target, os.lstat(source))
    assert os.lstat(target).st_mode & 0o7777 == mode


def test_holes_stay_holes_and_the_bytes_around_them_stay(tmp_path: Path) -> None:
    with (tmp_path / "holes").open("wb") as file:
        for offset in (0, 1 << 20, 3 << 20):
            file.seek(offset)
            file.write(b"data" * 1024)
    source, target = os.fsencode(tmp_path / "holes"), os.fsencode(tmp_path / "copy")
    copy_entry(source, target, os.lstat(source))
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "holes").read_bytes()


@pytest.mark.parametrize(("number", "ranges"), [(errno.EINVAL, [(0, 9)]), (errno.ENXIO, [])])
def test_where_the_kernel_cannot_tell_all_of_a_file_is_data(
    monkeypatch: pytest.MonkeyPatch, number: int, ranges: list[tuple[int, int]]
) -> None:
    def fail(*_: int) -> int:
        raise OSError(number, "said the kernel")

    monkeypatch.setattr(os, "lseek", fail)
    assert [*list_data(0, 9)] == ranges


def test_a_file_that_cannot_be_read_is_not_taken_for_an_empty_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: int) -> int:
        raise OSError(errno.EIO, "said the kernel")

    monkeypatch.setattr(os, "lseek", fail)
    with pytest.raises(OSError, match="said the kernel"):
        [*list_data(0, 9)]
