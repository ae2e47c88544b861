"""Any members against the sandbox: errors only, and nothing outside."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramos.errors import RamosError
from ramos.formats.archive import DEVICE, DIRECTORY, FILE, HARDLINK, SYMLINK, Member
from ramos.formats.sandbox import Limits, unpack_members
from ramos.linux.beneath import resolve_inside
from tests.labs import apk_tools

SETTINGS = settings(max_examples=150, deadline=None)
LIMITS = Limits(size_bytes=1 << 16, entries=50)
PARTS = st.sampled_from(["a", "b", "c", "..", ".", "", "\0", "ä", "n" * 300, "\udcff", "outside"])
PATHS = st.builds(
    lambda start, parts: start + "/".join(parts),
    st.sampled_from(["", "", "", "/", "../", "../outside/"]),
    st.lists(PARTS, max_size=5),
)
NUMBERS = st.one_of(st.integers(0, 70_000), st.integers(-(2**70), 2**70))
XATTRS = st.dictionaries(
    st.sampled_from(
        ["user.x", "user.", "trusted.overlay.opaque", "", "none", "user.\0", "ä" * 200]
    ),
    st.binary(max_size=20),
    max_size=2,
)
MEMBERS = st.builds(
    Member,
    name=PATHS,
    kind=st.sampled_from([FILE, FILE, DIRECTORY, SYMLINK, SYMLINK, HARDLINK, DEVICE]),
    mode=st.integers(0, 0o7777),
    uid=NUMBERS,
    gid=NUMBERS,
    size=st.integers(0, 8),
    mtime=NUMBERS,
    link=PATHS,
    xattrs=XATTRS,
    checksum=st.sampled_from([None, None, "0" * 40]),
)


@SETTINGS
@given(
    members=st.lists(st.tuples(MEMBERS, st.binary(max_size=8)), max_size=8), owners=st.booleans()
)
def test_members_stay_inside(members: list[tuple[Member, bytes]], owners: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        for name in ("outside", "a"):
            (top / name).mkdir()
            (top / name / "a").write_text("untouched")
        before = apk_tools.list_tree(top)
        entries = ((m, io.BytesIO(data) if m.kind == FILE else None) for m, data in members)
        root = top / "root"
        with contextlib.suppress(RamosError):
            unpack_members("fuzz-1", entries, root, limits=LIMITS, owners=owners)
        after = apk_tools.list_tree(top)
        assert {n: v for n, v in after.items() if n.partition("/")[0] != "root"} == before
        for path in [root, *root.rglob("*")]:
            with contextlib.suppress(RamosError):
                assert resolve_inside(root, str(path.relative_to(root))).is_relative_to(root)
        assert not [p for p in root.rglob("*") if not p.is_symlink() and p.stat().st_rdev]


def test_a_link_to_a_name_that_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("n" * 300)
    with pytest.raises(RamosError, match=r"^cannot read: a: File name too long"):
        resolve_inside(tmp_path, "a")


@SETTINGS
@given(names=st.lists(PATHS, max_size=4), asked=PATHS)
def test_names_resolve_inside_whatever_links_there_are(names: list[str], asked: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "root")
        root.mkdir()
        for place, target in zip("abc", names, strict=False):
            with contextlib.suppress(OSError, ValueError):
                (root / place).symlink_to(target)
        with contextlib.suppress(RamosError, OSError, ValueError):
            found = resolve_inside(root, asked)
            assert ".." not in found.relative_to(root).parts
            assert os.path.realpath(found.parent).startswith(str(root)) or found == root
