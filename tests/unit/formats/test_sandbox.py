"""Hostile archives: each is refused by name, and nothing appears outside the directory."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from ramos.errors import RamosError
from ramos.formats.archive import DEVICE, DIRECTORY, FILE, HARDLINK, SYMLINK, Member
from ramos.formats.sandbox import Limits, check_link, unpack_members
from ramos.linux.beneath import resolve_inside

Entry = tuple[Member, IO[bytes] | None]


def file(name: str, content: bytes = b"content") -> Entry:
    return Member(name, FILE, size=len(content)), io.BytesIO(content)


def directory(name: str) -> Entry:
    return Member(name, DIRECTORY, mode=0o755), None


def link(name: str, target: str, kind: str = SYMLINK) -> Entry:
    return Member(name, kind, link=target), None


def endless() -> Iterator[Entry]:
    for number in range(100):
        yield file(f"zeros-{number}", bytes(1 << 20))


HOSTILE: dict[str, list[Entry]] = {
    "absolute name": [file("/etc/passwd")],
    "parent": [file("../outside")],
    "parent inside": [directory("a"), file("a/../../outside")],
    "through a link": [link("a", "/tmp"), file("a/outside")],
    "through a relative link": [directory("d"), link("d/a", "../d"), file("d/a/x")],
    "directory over a link": [link("a", "/tmp"), directory("a"), file("a/x")],
    "link climbs": [link("a", "../../etc/passwd")],
    "link climbs later": [directory("d"), link("d/a", "x/../../../etc")],
    "link without target": [link("a", "")],
    "absolute link climbs": [link("a", "/../etc")],
    "hard link out": [link("a", "../../etc/passwd", HARDLINK)],
    "hard link absolute": [link("a", "/etc/passwd", HARDLINK)],
    "hard link to a link": [link("a", "/etc/passwd"), link("b", "a", HARDLINK)],
    "hard link to nothing": [link("a", "b", HARDLINK)],
    "file twice": [file("a"), file("a")],
    "file over a link": [link("a", "/tmp/outside"), file("a")],
    "file over a directory": [directory("a"), file("a")],
    "below a file": [file("a"), file("a/b")],
    "device": [(Member("dev-sda", DEVICE), None)],
    "nul": [file("a\0b")],
    "long name": [file("n" * 256)],
    "long path": [file("/".join(["d" * 200] * 30)[1:])],
    "short content": [(Member("a", FILE, size=100), io.BytesIO(b"short"))],
    "wrong checksum": [(Member("a", FILE, size=1, checksum="0" * 40), io.BytesIO(b"x"))],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_member_is_refused_by_name(case: str, tmp_path: Path) -> None:
    with pytest.raises(RamosError, match=r"^refused package: evil-1: ") as caught:
        unpack_members("evil-1", HOSTILE[case], tmp_path / "out")
    assert "Nothing was written outside" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not Path("/tmp/outside").exists()


def test_bombs_are_stopped_early(tmp_path: Path) -> None:
    limits = Limits(size_bytes=8 << 30).cap_ratio(compressed_bytes=1000)
    with pytest.raises(RamosError, match="evil-1: it unpacks to more than"):
        unpack_members("evil-1", endless(), tmp_path / "out", limits=limits)
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= 64 << 20
    many = (file(str(number), b"") for number in range(1000))
    with pytest.raises(RamosError, match="more than 10 entries"):
        unpack_members("evil-1", many, tmp_path / "many", limits=Limits(entries=10))


def test_ordinary_members_are_written(tmp_path: Path) -> None:
    entries = [
        directory("."),
        file("./usr/bin/tool"),
        (Member("usr/share", DIRECTORY, mode=0o500), None),
        file("usr/share/inside"),
        link("lib/vmlinuz", "/boot/vmlinuz"),
        link("usr/bin/up", "../../lib/vmlinuz"),
        link("usr/bin/again", "./usr/bin/tool", HARDLINK),
    ]
    out = tmp_path / "out"
    names = unpack_members("good-1", entries, out)
    assert names[:3] == ["usr", "usr/bin", "usr/bin/tool"]
    assert (out / "usr/bin/again").stat().st_ino == (out / "usr/bin/tool").stat().st_ino
    assert (out / "usr/share").stat().st_mode & 0o777 == 0o500
    with pytest.raises(RamosError, match="the directory is not empty"):
        unpack_members("good-1", entries, out)


def test_names_are_resolved_inside_the_tree(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz").symlink_to("/etc/shadow")
    (tmp_path / "up").symlink_to("../../../../boot/vmlinuz")
    (tmp_path / "loop").symlink_to("loop")
    assert resolve_inside(tmp_path, "up") == tmp_path / "etc/shadow"
    assert resolve_inside(tmp_path, "/../../boot") == tmp_path / "boot"
    with pytest.raises(RamosError, match="in circles"):
        resolve_inside(tmp_path, "loop")


def test_links_that_stay_inside_are_allowed() -> None:
    check_link("good-1", "usr/lib/x", "../../lib/y")
    check_link("good-1", "etc/mtab", "../proc/mounts")
    check_link("good-1", "x", "a/../b")
    with pytest.raises(RamosError):
        check_link("evil-1", "usr/x", "../../y")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: giving files away")
def test_owners_and_modes_of_root(tmp_path: Path) -> None:
    member = Member("tool", FILE, mode=0o6755, uid=12, gid=34, size=1, mtime=1000)
    unpack_members("good-1", [(member, io.BytesIO(b"x"))], tmp_path / "out")
    state = (tmp_path / "out/tool").stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o7777) == (12, 34, 0o6755)
    assert state.st_mtime == 1000


def test_a_place_that_cannot_be_written_is_an_error_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("a file")
    with pytest.raises(RamosError, match=r"cannot unpack: label: .* is incomplete"):
        unpack_members("label", iter([file("a")]), tmp_path / "in the way" / "below")
