"""The oracle's own eyes: whatever a save could lose, `explain` names."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.labs.tree import ACL, ACL_NAMES, capture, explain

BASE_TIME = 1_700_000_000
Change = Callable[[Path], object]


def make_tree(top: Path) -> Path:
    """One entry of each kind, on a file system that takes all of them."""
    (top / "d/e").mkdir(parents=True)
    (top / "d/file").write_text("content")
    (top / "d/twin").hardlink_to(top / "d/file")
    (top / "d/link").symlink_to("file")
    (top / os.fsdecode(b"\xff\xfe")).write_text("odd")
    (top / "hole").write_bytes(b"")
    os.truncate(top / "hole", 8192)
    os.mknod(top / "device", stat.S_IFBLK | 0o640, os.makedev(259, 70000))
    os.setxattr(top / "d/file", "trusted.test", b"1")
    os.setxattr(top / "d/e", ACL_NAMES[1], ACL)
    for path in top.rglob("*"):
        os.utime(path, (BASE_TIME, BASE_TIME), follow_symlinks=False)
    return top


def tear(top: Path) -> None:
    """Two names of one file become two files that are alike in all else."""
    twin, status = top / "d/twin", (top / "d").stat()
    twin.unlink()
    twin.write_text("content")
    os.setxattr(twin, "trusted.test", b"1")
    os.utime(twin, (BASE_TIME, BASE_TIME))
    os.utime(top / "d", ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_device(top: Path) -> None:
    (top / "device").unlink()
    os.mknod(top / "device", stat.S_IFBLK | 0o640, os.makedev(259, 70001))
    os.utime(top / "device", (BASE_TIME, BASE_TIME))


def retarget(top: Path) -> None:
    (top / "d/link").unlink()
    (top / "d/link").symlink_to("twin")
    os.utime(top / "d/link", (BASE_TIME, BASE_TIME), follow_symlinks=False)
    os.utime(top / "d", (BASE_TIME, BASE_TIME))


def write_quietly(top: Path) -> None:
    (top / "d/file").write_text("CONTENT")
    os.utime(top / "d/file", (BASE_TIME, BASE_TIME))


LOSSES: dict[str, tuple[Change, bytes]] = {
    "mode": (lambda top: (top / "d/file").chmod(0o4755), b"d/file"),
    "mode of a directory": (lambda top: (top / "d").chmod(0o1777), b"d"),
    "owner": (lambda top: os.chown(top / "d/link", 1000, -1, follow_symlinks=False), b"d/link"),
    "group": (lambda top: os.chown(top / "hole", -1, 1000), b"hole"),
    "content": (write_quietly, b"d/file"),
    "length": (lambda top: os.truncate(top / "hole", 8193), b"hole"),
    "xattr": (lambda top: os.removexattr(top / "d/file", "trusted.test"), b"d/file"),
    "acl": (lambda top: os.removexattr(top / "d/e", ACL_NAMES[1]), b"d/e"),
    "hard link": (tear, b"d/twin"),
    "device number": (replace_device, b"device"),
    "target": (retarget, b"d/link"),
    "time": (lambda top: os.utime(top / "d/e", (0, BASE_TIME + 1)), b"d/e"),
    "name that is no text": (lambda top: (top / os.fsdecode(b"\xff\xfe")).unlink(), b"\xff\xfe"),
    "removed file that is back": (lambda top: (top / "back").write_text(""), b"back"),
    "removed directory that is back": (lambda top: (top / "back").mkdir(), b"back"),
}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make_tree(tmp_path)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_is_named(top: Path, loss: str) -> None:
    lose, path = LOSSES[loss]
    before = capture(top)
    lose(top)
    assert any(repr(path) in line for line in explain(before, capture(top)))


def test_what_no_layer_holds_is_no_difference(top: Path) -> None:
    before = capture(top)
    data = (top / "hole").read_bytes()
    (top / "hole").write_bytes(data)  # a hole that is filled
    for path in top.rglob("*"):
        os.utime(path, ns=(0, BASE_TIME * 10**9 + 5), follow_symlinks=False)
    assert explain(before, capture(top)) == []


def test_excludes_hide_a_name_and_what_is_below(top: Path) -> None:
    shape = capture(top, ("/d/*", "*\xff*"))
    assert sorted(shape) == [b"d", b"device", b"hole", b"\xff\xfe"]
    assert b"hole" not in capture(top, ("hole",))
