"""Comparing trees: every kind of difference is found, whichever process has the directory."""

import os
import resource
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.layers.compare import comparing, find_differences
from ramos.linux.child import forked


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Two trees that are the same."""
    left, right = tmp_path / "left", tmp_path / "right"
    for folder in ("one/two/three", "four", "five/six"):
        (left / folder).mkdir(parents=True)
        (left / folder / "file").write_bytes(folder.encode() * 100_000)
    (left / "one/link").symlink_to("two")
    os.link(left / "four/file", left / "five/twin")
    os.link(left / "four/file", left / "five/six/twin")
    with (left / "sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"end")
    shutil.copytree(left, right, symlinks=True)
    for name in ("five/twin", "five/six/twin"):
        (right / name).unlink()
        os.link(right / "four/file", right / name)
    copy_times(left, right)
    return left, right


def copy_times(left: Path, right: Path) -> None:
    for path in sorted([left, *left.rglob("*")], reverse=True):
        status = path.lstat()
        target = right / path.relative_to(left)
        if os.path.lexists(target):
            os.utime(target, ns=(0, status.st_mtime_ns), follow_symlinks=False)


def change_middle(root: Path) -> None:
    with (root / "one/two/three/file").open("r+b") as file:
        file.seek(700_000)
        file.write(b"!")


def change_end(root: Path) -> None:
    with (root / "sparse").open("r+b") as file:
        file.seek((5 << 20) + 2)
        file.write(b"D")


def break_link(root: Path) -> None:
    data = (root / "five/six/twin").read_bytes()
    (root / "five/six/twin").unlink()
    (root / "five/six/twin").write_bytes(data)


def replace_by_link(root: Path) -> None:
    shutil.rmtree(root / "five/six")
    (root / "five/six").symlink_to("../four")


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def point_elsewhere(root: Path) -> None:
    (root / "one/link").unlink()
    (root / "one/link").symlink_to("owt")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (change_middle, "content differs"),
    "the end of a sparse file": (change_end, "content differs"),
    "a size": (lambda root: os.truncate(root / "four/file", 5), "size"),
    "a mode": (lambda root: (root / "five/six/file").chmod(0o600), "mode"),
    "a mode of a directory": (lambda root: (root / "one/two").chmod(0o700), "mode"),
    "the mode of the top": (lambda root: root.chmod(0o700), "top directory"),
    "a time": (lambda root: os.utime(root / "sparse", (1, 1)), "time"),
    "a target": (point_elsewhere, "points elsewhere"),
    "a missing file": (lambda root: (root / "five/twin").unlink(), "missing"),
    "a missing directory": (lambda root: shutil.rmtree(root / "one/two"), "missing"),
    "a new file": (lambda root: (root / "one/two/new").touch(), "too much"),
    "a new directory": (lambda root: (root / "one/new").mkdir(), "too much"),
    "a socket": (lambda root: bind(root / "four/socket"), "too much"),
    "a directory that is a link now": (replace_by_link, "mode"),
    "a broken hard link": (break_link, "hard links"),
}


def test_the_same_is_the_same(trees: tuple[Path, Path]) -> None:
    assert find_differences(*trees) == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_is_found(trees: tuple[Path, Path], name: str) -> None:
    left, right = trees
    change, words = CHANGES[name]
    change(right)
    if name != "a time":
        copy_times(left, right)
    found = find_differences(left, right)
    assert any(words in text for text in found), found


def test_files_that_became_one_are_found(tmp_path: Path) -> None:
    for name in ("left", "right"):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("a", "b", "c", "d"):
            (folder / file).write_text("same")
            os.utime(folder / file, (0, 0))  # else the second may end between them
    for pair in (("a", "b"), ("c", "d")):
        (tmp_path / "left" / pair[1]).unlink()
        os.link(tmp_path / "left" / pair[0], tmp_path / "left" / pair[1])
    for file in ("b", "c", "d"):
        (tmp_path / "right" / file).unlink()
        os.link(tmp_path / "right/a", tmp_path / "right" / file)
    copy_times(tmp_path / "left", tmp_path / "right")
    assert any(
        "hard links" in text for text in find_differences(tmp_path / "left", tmp_path / "right")
    )


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    with pytest.raises(RamosError, match="No such file"):
        find_differences(tmp_path / "left", tmp_path / "absent")


def test_the_children_are_gone_with_the_block(trees: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="stop"), comparing(*trees):
        raise ValueError("stop")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_child_that_dies_is_no_answer() -> None:
    with forked(lambda: os._exit(0), "two trees") as wait, pytest.raises(RamosError, match="died"):
        wait()


def test_more_files_than_may_be_open_are_compared(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}").write_text("content")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        assert find_differences(tmp_path, tmp_path) == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
