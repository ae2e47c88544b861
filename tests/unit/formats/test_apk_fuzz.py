"""Readers of packages and indexes against damaged bytes: a RamosError, or the right content."""

import contextlib
import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ramos.errors import RamosError
from ramos.formats import apk, apk_index, apk_pack, apk_package
from ramos.formats.apk_pack import sign_member
from ramos.formats.archive import read_tar
from ramos.formats.sandbox import Limits, unpack_members
from tests.labs import apk_tools

SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LIMITS = Limits(size_bytes=1 << 20, entries=1000)
# What is done to the bytes: (where, as a fraction; what is put there; how many bytes it replaces).
MUTATIONS = st.lists(
    st.tuples(st.floats(0, 1), st.binary(max_size=8), st.integers(0, 16)), min_size=1, max_size=4
)


def mutate(data: bytes, mutations: list[tuple[float, bytes, int]]) -> bytes:
    changed = bytearray(data)
    for place, content, replaced in mutations:
        start = int(place * len(changed))
        changed[start : start + replaced] = content
    return bytes(changed)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[apk_package.Package, Path]:
    work = tmp_path_factory.mktemp("fuzz")
    key, keys = apk_tools.make_keys(work)
    tree = work / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/tool").write_bytes(b"#!/bin/sh\n" * 50)
    (tree / "usr/bin/link").symlink_to("tool")
    (tree / ("n" * 150)).touch()
    fields = {"pkgname": "fuzz", "pkgver": "1-r0", "arch": "x86_64", "depend": ["busybox"]}
    made = apk_package.make_package(fields, {"post-install": b"#!/bin/sh\n"})
    return apk_pack.pack(made, tree, work / "fuzz-1-r0.apk", key), keys


@SETTINGS
@given(mutations=MUTATIONS)
def test_damaged_package(
    package: tuple[apk_package.Package, Path], mutations: list[tuple[float, bytes, int]]
) -> None:
    original, keys = package
    data = mutate(original.path.read_bytes(), mutations)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        (work / "damaged.apk").write_bytes(data)
        with contextlib.suppress(RamosError):
            read = apk.read_package(work / "damaged.apk")
            apk.unpack(read, work / "out", limits=LIMITS)
        assert {path.name for path in work.iterdir()} <= {"damaged.apk", "out"}
        # Verified means: all that a key answers for is as it was signed.
        with contextlib.suppress(RamosError):
            verified = apk.verify_package(work / "damaged.apk", keys)
            assert verified.control == original.control
            assert apk.hash_data(verified) == original.fields["datahash"]


@SETTINGS
@given(mutations=MUTATIONS, headers=st.booleans())
def test_damaged_archive(mutations: list[tuple[float, bytes, int]], headers: bool) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind in (("dir", tarfile.DIRTYPE), ("dir/file", tarfile.REGTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, 5 if kind == tarfile.REGTYPE else 0
            entry.pax_headers = {"SCHILY.xattr.user.x": "value", "path": name}
            tar.addfile(entry, io.BytesIO(b"hello"))
    whole = buffer.getvalue()
    # The first blocks are all headers; the rest is content and the end.
    data = mutate(whole[:2048], mutations) + whole[2048:] if headers else mutate(whole, mutations)
    with tempfile.TemporaryDirectory() as directory:
        with contextlib.suppress(RamosError):
            members = read_tar(io.BytesIO(_fix_checksums(data)), "fuzz-1")
            unpack_members("fuzz-1", members, Path(directory) / "out", limits=LIMITS, owners=False)
        assert {path.name for path in Path(directory).iterdir()} <= {"out"}


def _fix_checksums(data: bytes) -> bytes:
    """Make the header sums right again, or hardly any mutation would get past the first check."""
    blocks = bytearray(data)
    for start in range(0, len(blocks) - 511, 512):
        block = blocks[start : start + 512]
        if block[257:262] == b"ustar":
            total = sum(block[:148]) + 8 * 32 + sum(block[156:])
            blocks[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(blocks)


@settings(SETTINGS, max_examples=40)
@given(mutations=MUTATIONS)
def test_damaged_index(
    package: tuple[apk_package.Package, Path], mutations: list[tuple[float, bytes, int]]
) -> None:
    """What its key does not answer for is refused, or it says what it said."""
    original, keys = package
    text = apk_index.render_record(original, "x86_64").encode()
    data = sign_member({"APKINDEX": text}, original.path.parent / "test.rsa")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "APKINDEX.tar.gz"
        path.write_bytes(data)
        whole = apk_index.read_index(path, keys)
        assert list(whole.entries) == ["fuzz"]
        path.write_bytes(mutate(data, mutations))
        with contextlib.suppress(RamosError):
            assert apk_index.read_index(path, keys) == whole


@pytest.mark.parametrize("letter", "PVC")
@pytest.mark.parametrize("value", ["", "../x", "a/b", "/", "a\0b", " "])
def test_a_signed_index_with_a_name_that_is_a_path(
    package: tuple[apk_package.Package, Path], tmp_path: Path, letter: str, value: str
) -> None:
    original, keys = package
    lines = apk_index.render_record(original, "x86_64").splitlines()
    bad = [f"{letter}:{value}" if line.startswith(f"{letter}:") else line for line in lines]
    path = tmp_path / "APKINDEX.tar.gz"
    text = "\n".join(bad).encode()
    path.write_bytes(sign_member({"APKINDEX": text}, original.path.parent / "test.rsa"))
    with pytest.raises(RamosError, match="without a name, version or identity"):
        apk_index.read_index(path, keys)


@pytest.mark.parametrize("size", [0o77777777777, 1 << 40])
def test_absurd_header_sizes_take_no_memory(size: int) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, size
    data = header.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
    with pytest.raises(RamosError, match="fuzz-1: an archive header with an absurd size"):
        list(read_tar(io.BytesIO(data), "fuzz-1"))
