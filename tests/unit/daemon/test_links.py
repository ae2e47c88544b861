"""Which links are made and removed, and what is left alone."""

import os
from pathlib import Path

import pytest

from ramos.daemon.links import Owner, plan_links, sync_links

HOSTILE = (b"a b", b"-rf", b"new\nline", b"\xff\xfe", b"'quoted\"", b"...", b"*", b"\\")
DIR = b"/persist/user"


@pytest.mark.parametrize(
    ("entries", "home", "make", "remove", "conflicts"),
    [
        ([b"a"], {}, (b"a",), (), ()),
        ([b"a"], {b"a": b"/persist/user/a"}, (), (), ()),
        ([b"a"], {b"a": None}, (), (), (b"a",)),
        ([b"a"], {b"a": b"/elsewhere"}, (), (), (b"a",)),
        ([], {b"a": b"/persist/user/a"}, (), (b"a",), ()),
        ([], {b"a": b"/persist/user/b"}, (), (), ()),
        ([], {b"a": None, b"b": b"/etc"}, (), (), ()),
        ([b"lost+found"], {}, (), (), ()),
        (HOSTILE, {}, tuple(sorted(HOSTILE)), (), ()),
    ],
)
def test_plan(
    entries: list[bytes],
    home: dict[bytes, bytes | None],
    make: tuple[bytes, ...],
    remove: tuple[bytes, ...],
    conflicts: tuple[bytes, ...],
) -> None:
    plan = plan_links(entries, home, DIR)
    assert (plan.make, plan.remove, plan.conflicts) == (make, remove, conflicts)


def make_owner(home: Path) -> Owner:
    return Owner("me", os.getuid(), os.getgid(), home)


def test_links_with_hostile_names_follow_their_entries(tmp_path: Path) -> None:
    home, user = tmp_path / "home", tmp_path / "user"
    home.mkdir()
    user.mkdir()
    for name in HOSTILE:
        (user / os.fsdecode(name)).write_bytes(name)
    assert sync_links(make_owner(home), user).made == len(HOSTILE)
    for name in HOSTILE:
        assert (home / os.fsdecode(name)).read_bytes() == name
    assert sync_links(make_owner(home), user).made == 0
    for name in HOSTILE:
        (user / os.fsdecode(name)).unlink()
    assert sync_links(make_owner(home), user).removed == len(HOSTILE)
    assert list(home.iterdir()) == []


def test_what_is_in_the_way_stays_and_is_reported(tmp_path: Path) -> None:
    home, user = tmp_path / "home", tmp_path / "user"
    (home / "docs").mkdir(parents=True)
    (home / "docs/mine").write_text("precious")
    (home / "link").symlink_to("/etc")
    for name in ("docs", "link"):
        (user / name).mkdir(parents=True)
    report = sync_links(make_owner(home), user)
    assert report.conflicts == (b"docs", b"link")
    assert (home / "docs/mine").read_text() == "precious"
    assert (home / "link").readlink() == Path("/etc")


def test_a_folder_that_cannot_be_read_removes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "a").symlink_to(tmp_path / "user/a")
    report = sync_links(make_owner(home), tmp_path / "user")
    assert report.problems
    assert (home / "a").is_symlink()


def test_a_home_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to("real")
    (tmp_path / "user").mkdir()
    (tmp_path / "user/a").touch()
    assert sync_links(make_owner(tmp_path / "home"), tmp_path / "user").problems
    assert list((tmp_path / "real").iterdir()) == []
