"""What root does in directories that are a user's, while that user turns the ways to them."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.daemon.links import Owner, give_link, make_user_directory, sync_links
from ramos.errors import RamosError
from ramos.save.exchange import export, import_image, restore_file
from ramos.store.generations import read_generation
from tests.labs.lab import Lab
from tests.labs.tree import ACL
from tests.root.layers.test_hostile_acls import USER, give

OWNER = Owner("user", USER, USER, Path("/home/user"))
TRIES = 40


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    made = Lab(tmp_path).make()
    home = made.places.run / "rootfs/home/user"
    (home / "d").mkdir(parents=True)
    (home / "d/shadow").write_text("root::0:0:99999:7:::\n")
    give(home, home / "d", home / "d/shadow")
    (made.places.run / "rootfs/etc/shadow").write_text("root's\n")
    made.boot_first()
    (made.places.root / "six").write_text("something to save")
    made.commit()
    return made


def restore(lab: Lab, path: str, target: Path | None = None) -> int:
    first = read_generation(lab.places.persist, 1)
    goal = target or lab.places.root / path
    return restore_file(lab.places, first, path.encode(), goal)


def see(etc: Path) -> dict[str, tuple[str, int]]:
    return {path.name: (path.read_text(), path.stat().st_uid) for path in etc.iterdir()}


def turn(home: Path) -> None:
    """The directory becomes a link to /etc."""
    (home / "d").rename(home / "aside")
    (home / "d").symlink_to("../../etc")
    give(home / "d")


def test_hostile_link_on_the_way_to_what_is_restored(lab: Lab) -> None:
    etc, home = lab.places.root / "etc", lab.places.root / "home/user"
    before = see(etc)
    (home / "d/shadow").unlink()
    (home / "d").rmdir()
    (home / "d").symlink_to("../../etc")
    give(home / "d")
    for target in (None, home / "d/new"):
        with pytest.raises(RamosError, match="link is on the way"):
            restore(lab, "home/user/d/shadow", target)
    assert see(etc) == before
    assert sorted(os.listdir(home)) == ["d"]


@contextlib.contextmanager
def turning(home: Path) -> Iterator[None]:
    """A user who changes a directory for a link and back, as fast as he can."""
    child = os.fork()
    if child == 0:
        while True:
            with contextlib.suppress(OSError):
                os.rename(home / "d", home / "x")
                os.rename(home / "link", home / "d")
                os.rename(home / "d", home / "link")
                os.rename(home / "x", home / "d")
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_hostile_race_against_what_is_restored(lab: Lab) -> None:
    etc, home = lab.places.root / "etc", lab.places.root / "home/user"
    (home / "d/shadow").unlink()
    (home / "d").rmdir()
    (home / "d").mkdir()
    (home / "link").symlink_to("../../etc")
    give(home / "d", home / "link")
    before, done = see(etc), 0
    with turning(home):
        for _ in range(TRIES):
            with contextlib.suppress(RamosError):
                done += restore(lab, "home/user/d/shadow")
    assert see(etc) == before


def test_hostile_default_acl_is_not_inherited_by_what_is_restored(lab: Lab) -> None:
    root = lab.places.root
    (root / "secret").write_text("root's")
    (root / "secret").chmod(0o640)
    lab.commit()
    second = read_generation(lab.places.persist, 2)
    folder = root / "home/user/d"
    os.setxattr(folder, "system.posix_acl_default", ACL)
    restore_file(lab.places, second, b"secret", folder / "secret")
    assert os.listxattr(folder / "secret") == []
    assert sorted(os.listdir(folder)) == ["secret", "shadow"]


def test_a_directory_of_a_layer_is_replaced_as_a_whole(lab: Lab) -> None:
    root = lab.places.root
    (root / "b/c/new").write_text("new")
    (root / "b/three").unlink()
    assert restore(lab, "b") == 4
    assert sorted(os.listdir(root / "b")) == ["c", "three"]
    assert os.listdir(root / "b/c") == ["four"]
    (root / "a/one").unlink()
    (root / "a/one").mkdir()
    (root / "a/one/file").write_text("x")
    assert restore(lab, "a/one") == 1
    assert (root / "a/one").read_text() == "base a/one\n"
    assert sorted(os.listdir(root / "a")) == ["one", "two"]


def test_hostile_link_where_an_export_is_written(lab: Lab) -> None:
    etc, home = lab.places.root / "etc", lab.places.root / "home/user"
    before = see(etc)
    for name in ("out.tmp", "out.acl", "out"):
        (home / name).symlink_to("../../etc/shadow")
    first = read_generation(lab.places.persist, 1)
    with pytest.raises(RamosError, match="it exists"):
        export(lab.places, first, home / "out", lab.config, lambda *_: None)
    (home / "out").unlink()
    export(lab.places, first, home / "out", lab.config, lambda *_: None)
    assert see(etc) == before
    assert (home / "out").stat().st_mode & 0o777 == 0o600


def test_hostile_acls_beside_an_image_are_not_imported(lab: Lab) -> None:
    root, image = lab.places.root, lab.top / "out.squashfs"
    os.setxattr(root / "six", "system.posix_acl_access", ACL)
    lab.commit()
    second = read_generation(lab.places.persist, 2)
    export(lab.places, second, image, lab.config, lambda *_: None)
    sidecar = lab.top / "out.squashfs.acl"
    text = sidecar.read_text()
    for other in (text.replace("six", "etc/shadow"), text.replace(" 0:0 ", f" {USER}:0 ")):
        sidecar.write_text(other)
        with pytest.raises(RamosError, match="does not have"):
            import_image(lab.places, image, lab.config, add=True, on_progress=lambda *_: None)
    sidecar.write_text(text)
    import_image(lab.places, image, lab.config, add=True, on_progress=lambda *_: None)
    assert lab.numbers() == [1, 2, 3]


def test_hostile_link_on_the_way_to_a_home(tmp_path: Path, private_mounts: None) -> None:  # noqa: ARG001
    files, etc = tmp_path / "files", tmp_path / "etc"
    (etc / "sub").mkdir(parents=True)
    files.mkdir()
    (files / "passwd").write_text("mine")
    (tmp_path / "home").symlink_to("etc")
    give(tmp_path / "home")
    owner = Owner("user", USER, USER, tmp_path / "home/sub")
    report = sync_links(owner, files)
    assert (report.made, len(report.problems)) == (0, 1)
    assert os.listdir(etc / "sub") == []


def test_links_that_root_alone_can_change_are_followed(private_mounts: None) -> None:  # noqa: ARG001
    place = Path("/mnt")
    os.system(f"mount -t tmpfs -o mode=755 tmpfs {place}")
    for name in ("persist/home/user", "files"):
        (place / name).mkdir(parents=True)
    (place / "files/a").write_text("mine")
    (place / "home").symlink_to("persist/../persist/home")
    (place / "other").symlink_to("/mnt/home")
    owner = Owner("user", USER, USER, place / "other/user")
    assert sync_links(owner, place / "files").made == 1
    made = place / "persist/home/user/a"
    assert (made.readlink(), made.lstat().st_uid) == (place / "files/a", USER)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_hostile_entry_in_the_place_of_a_new_link_is_not_given_away(
    tmp_path: Path, kind: str
) -> None:
    if kind == "file":
        (tmp_path / "a").write_text("root's")
    else:
        (tmp_path / "a").symlink_to("elsewhere")
    home = os.open(tmp_path, os.O_RDONLY)
    try:
        give_link(home, b"a", b"/persist/user/a", OWNER)
    finally:
        os.close(home)
    assert (tmp_path / "a").lstat().st_uid == 0


def test_hostile_link_in_the_place_of_the_users_folder(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "user").symlink_to("etc")
    with pytest.raises(OSError, match="link"):
        make_user_directory(tmp_path / "user", OWNER)
    assert (tmp_path / "etc").stat().st_uid == 0
    (tmp_path / "user").unlink()
    make_user_directory(tmp_path / "user", OWNER)
    assert (tmp_path / "user").stat().st_uid == USER
