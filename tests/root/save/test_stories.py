"""Short stories that a save has to get right, each with one thing that can go wrong in it.

A story is a list of steps on the running system with saves between them; then a boot has to show
what ran. The oracle finds the same faults, but only when chance tells the story.
"""

import contextlib
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ramos.config import SaveConfig
from ramos.save import compact
from tests.labs.lab import Lab
from tests.labs.tree import ACL, MAX_SECONDS, capture, explain

CONFIG = SaveConfig(reserve_mib=1, exclude=("tmp/*", "*.skip"))
DEFAULT_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHi", *entry) for entry in ((1, 7, -1), (4, 5, -1), (32, 0, -1))
)
Step = Callable[[Path], object]


def new_directory_over_a_saved_one(root: Path) -> None:
    shutil.rmtree(root / "a")
    (root / "a").mkdir()


def write(name: str, text: str = "text") -> Step:
    return lambda root: (root / name).write_text(text)


def remove(name: str) -> Step:
    return lambda root: (root / name).unlink()


def remove_tree(name: str) -> Step:
    return lambda root: shutil.rmtree(root / name)


def make(name: str) -> Step:
    return lambda root: (root / name).mkdir(parents=True)


def move(name: str, to: str) -> Step:
    return lambda root: (root / name).rename(root / to)


def link(name: str, to: str) -> Step:
    return lambda root: os.link(root / name, root / to, follow_symlinks=False)


def mark(name: str, what: str = "trusted.mark", value: bytes = b"1") -> Step:
    return lambda root: os.setxattr(root / name, what, value)


def set_acl(name: str, word: str = "access") -> Step:
    value = ACL if word == "access" else DEFAULT_ACL
    return lambda root: os.setxattr(root / name, f"system.posix_acl_{word}", value)


def bind(name: str) -> Step:
    def step(root: Path) -> None:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(str(root / name))

    return step


def set_time(name: str, seconds: int) -> Step:
    return lambda root: os.utime(root / name, (seconds, seconds))


# Each line is what happens before one save.
STORIES: dict[str, list[list[Step]]] = {
    "a base directory that was saved as merged is replaced by an empty one": [
        [write("a/new")],
        [new_directory_over_a_saved_one],
    ],
    "and what is put into it": [
        [write("a/new")],
        [new_directory_over_a_saved_one, write("a/two", "mine")],
        [write("a/three")],
    ],
    "a replaced directory stays replaced when something in it changes": [
        [new_directory_over_a_saved_one],
        [write("a/later")],
    ],
    "files, links and directories that were saved are deleted": [
        [make("d/e"), write("d/e/f"), write("g"), lambda root: os.symlink("g", root / "s")],
        [remove("g"), remove("s"), remove_tree("d"), write("h")],
    ],
    "a base directory is replaced, and gets back what lay in it, which nobody touched": [
        [make("a/d"), write("a/d/f"), set_acl("a/d/f"), set_time("a/d/f", -5)],
        [move("a/d", "aside"), remove_tree("a"), make("a"), move("aside", "a/d")],
    ],
    "a new directory that was saved is replaced by one with other things in it": [
        [make("d"), write("d/old")],
        [remove_tree("d"), make("d"), write("d/new")],
    ],
    "a saved directory becomes a file, and a saved file a directory": [
        [make("d/e"), write("d/e/f"), write("g")],
        [remove_tree("d"), write("d"), remove("g"), make("g/h"), write("g/h/i")],
    ],
    "two saved directories trade places, and nobody touches what is in them": [
        [make("p/d"), make("p/e"), write("p/d/f", "one"), write("p/e/f", "two")],
        [move("p/d", "p/t"), move("p/e", "p/d"), move("p/t", "p/e")],
    ],
    "a saved directory is moved, with what is in it": [
        [make("d/e"), write("d/e/f")],
        [move("d", "z")],
        [write("z/e/g")],
    ],
    "the deleted file of a base comes back as another one": [
        [remove("a/one")],
        [write("a/one", "again")],
        [remove("a/one")],
    ],
    "names that sort around a slash": [
        [make("d"), write("d/x"), write("d-x"), write("d.x"), write("d0")],
        [remove("d-x"), write("d/x", "changed"), remove("d0")],
        [remove_tree("d"), write("d-x")],
    ],
    "a directory on the way keeps its ACLs": [
        [make("d/e"), set_acl("d"), set_acl("d/e", "default"), write("d/e/f")],
        [write("d/e/f", "changed")],
    ],
    "a directory on the way to a deleted file keeps its ACLs": [
        [make("d/e"), set_acl("d/e", "default"), set_acl("d"), write("d/e/f"), write("d/e/g")],
        [remove("d/e/f")],
    ],
    "a directory that moves takes the ACLs below it along": [
        [make("d/e"), write("d/e/f"), set_acl("d/e/f"), set_acl("d/e", "default")],
        [move("d", "z")],
    ],
    "ACLs of names that need quoting": [
        [write("a b\nc%20"), set_acl("a b\nc%20"), make(" d"), set_acl(" d", "default")],
        [write(" d/\udcff"), set_acl(" d/\udcff")],
    ],
    "an ACL comes and goes": [
        [write("f"), set_acl("f"), write("g")],
        [lambda root: os.removexattr(root / "f", "system.posix_acl_access"), set_acl("g")],
    ],
    "a directory on the way keeps owner, mode, time and xattrs": [
        [make("d/e"), write("d/e/f"), mark("d"), lambda root: (root / "d").chmod(0o1750)],
        [write("d/e/g"), lambda root: os.chown(root / "d", 7, 8), set_time("d", 1234567890)],
        [write("d/e/g", "changed")],
    ],
    "only an xattr, only a mode, only a time, only a number of names changes": [
        [write("f"), write("g"), write("h"), write("i")],
        [mark("f"), lambda root: (root / "g").chmod(0o600), set_time("h", 5), link("i", "j")],
        [lambda root: os.removexattr(root / "f", "trusted.mark"), remove("j")],
    ],
    "one name of a hard link changes": [
        [write("f"), link("f", "g"), link("f", "etc/h")],
        [remove("g"), write("g", "its own")],
        [write("f", "both"), link("g", "etc/i")],
    ],
    "a symlink has two names": [
        [lambda root: os.symlink("a", root / "s"), link("s", "t")],
        [link("t", "etc/u"), remove("s")],
    ],
    "a socket takes the place of a saved file, and a file that of a socket": [
        [write("f"), bind("s"), make("d"), write("d/e")],
        [remove("f"), bind("f"), remove("s"), write("s"), remove("a/one"), bind("a/one")],
        [remove_tree("d"), bind("d")],
    ],
    "sockets in directories of their own, and in merged ones": [
        [make("d/e"), bind("d/s"), bind("d/e/s"), make("a/x"), bind("a/x/s"), bind("a/s")],
        [move("d", "z"), bind("z/t"), remove_tree("a"), make("a"), bind("a/two"), make("n")],
        [bind("n/s"), write("n/t"), remove("z/e/s"), write("z/e/s"), bind("b/four")],
    ],
    "what is excluded is not saved, nor deleted, whatever is around it": [
        [make("d"), write("d/a.skip"), write("d/b"), write("tmp/x")],
        [move("d", "z"), write("z/c.skip"), make("e"), write("e/d.skip")],
        [remove_tree("z")],
    ],
    "times that squashfs cannot hold, in a directory that is saved as a whole": [
        [make("d"), write("d/f"), set_time("d/f", -5), set_time("d", 1 << 33)],
        [move("d", "z"), make("z/e"), set_time("z/e", -1)],
        [write("z/g"), set_time("z", -7)],
    ],
    "the top directory has times that squashfs cannot hold": [
        [write("f"), set_time(".", -5)],
        [write("g"), set_time(".", 1 << 33)],
    ],
    "the top directory has an owner, a mode, a time, an xattr and ACLs": [
        [lambda root: os.chown(root, 11, 12), lambda root: root.chmod(0o1775), set_acl(".")],
        [mark("."), write("f"), set_acl(".", "default"), set_time(".", 1600000000)],
    ],
}


@pytest.fixture(scope="module", params=["btrfs", "tmpfs"])
def lab(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    private_package: None,  # noqa: ARG001
) -> Lab:
    return Lab(tmp_path_factory.mktemp("stories"), upper_kind=request.param).make()


def tell(lab: Lab, story: list[list[Step]], *, full: bool = False) -> None:
    """From an empty store on, with a save after each line; with `full`, the last one is of all."""
    shutil.rmtree(lab.places.persist / "upperfs", ignore_errors=True)
    lab.boot_first()
    for line in story:
        for step in line:
            step(lab.places.root)
        lab.commit(config=CONFIG, full=full and line is story[-1])


def check_boot(lab: Lab) -> None:
    """A boot shows what ran."""
    root = lab.places.root
    before = capture(root, CONFIG.exclude)
    top = look_at_top(root)
    lab.boot()
    assert not explain(before, capture(root, CONFIG.exclude))
    assert look_at_top(root) == top
    assert find_phantoms(root) == []
    assert not [*root.rglob("*.skip"), *root.glob("tmp/*")]


def find_phantoms(root: Path) -> list[str]:
    """Names that a directory lists and that are not there."""
    return [path for path in map(str, root.rglob("*")) if not os.path.lexists(path)]


def look_at_top(root: Path) -> tuple[object, ...]:
    """Owner, mode, time and xattrs of `/`, ACLs among them."""
    status = root.stat()
    found = {n: os.getxattr(root, n) for n in os.listxattr(root) if "overlay" not in n}
    seconds = min(max(status.st_mtime_ns // 10**9, 0), MAX_SECONDS)
    return (status.st_mode, status.st_uid, status.st_gid, seconds, found)


@pytest.mark.parametrize("stored", ["chain", "compacted", "full"])
@pytest.mark.parametrize("name", STORIES)
def test_story(lab: Lab, name: str, stored: str) -> None:
    try:
        tell(lab, STORIES[name], full=stored == "full")
        if stored == "compacted":
            compact.compact(lab.places, CONFIG, everything=True, on_progress=lambda *_: None)
        check_boot(lab)
    finally:
        lab.shut_down()


def test_what_is_excluded_later_stays_as_it_was_saved(lab: Lab) -> None:
    try:
        tell(lab, [[write("kept"), write("other")]])
        (lab.places.root / "kept").write_text("changed")
        (lab.places.root / "other").write_text("changed")
        lab.commit(config=SaveConfig(reserve_mib=1, exclude=("kept",)))
        lab.boot()
        assert (lab.places.root / "kept").read_text() == "text"
        assert (lab.places.root / "other").read_text() == "changed"
    finally:
        lab.shut_down()
