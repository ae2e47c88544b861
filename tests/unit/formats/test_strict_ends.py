"""Where an archive ends and how large a file is: what two readers would take in two ways."""

import contextlib
import gzip
import hashlib
import io
import lzma
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.formats import apk, apk_pack, apk_package, deb
from ramos.formats.archive import read_tar
from ramos.formats.deb_package import Package
from tests.labs import apk_tools
from tests.labs.debfile import MAGIC, write_ar

CONTROL = b"Package: sample\nVersion: 1\nArchitecture: amd64\nDescription: a sample\n"


def pack_zstd(data: bytes) -> bytes:
    argv = ["zstd", "-q", "-c", "--check"]
    return subprocess.run(argv, input=data, capture_output=True, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": pack_zstd,
    "": bytes,
}


def make_tar(pax: dict[str, str] | None = None, name: str = "file") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.size, info.pax_headers = 512, pax or {}
        tar.addfile(info, io.BytesIO(b"x" * 512))
    return buffer.getvalue()


def make_deb(path: Path, data: bytes, ending: str) -> Package:
    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w") as tar:
        info = tarfile.TarInfo("control")
        info.size = len(CONTROL)
        tar.addfile(info, io.BytesIO(CONTROL))
    members = [("debian-binary", MAGIC), ("control.tar", control.getvalue())]
    return deb.read_package(write_ar(path, [*members, (f"data.tar{ending}", data)]))


@pytest.mark.parametrize("ending", PACKERS)
def test_bytes_behind_the_archive_are_refused(tmp_path: Path, ending: str) -> None:
    good = make_deb(tmp_path / "good.deb", PACKERS[ending](make_tar()), ending)
    assert deb.unpack(good, tmp_path / "good") == ["file"]
    data = PACKERS[ending](make_tar() + b"more".ljust(512, b"\0"))
    with pytest.raises(RamosError, match=r"sample_1: bytes follow"):
        deb.unpack(make_deb(tmp_path / "bad.deb", data, ending), tmp_path / "bad")


@pytest.mark.parametrize("ending", [".gz", ".xz", ".zst"])
def test_bytes_behind_the_compressed_data_are_read_by_nobody(tmp_path: Path, ending: str) -> None:
    """dpkg-deb passes some over. It reads for us and for dpkg, and none are in what is built."""
    packed = PACKERS[ending](make_tar())
    for number, data in enumerate([packed + b"more", packed + packed]):
        bad = make_deb(tmp_path / "bad.deb", data, ending)
        ours = tmp_path / f"ours{number}"
        with contextlib.suppress(RamosError):
            assert deb.unpack(bad, ours) == ["file"]
            built = deb.build(bad, ours, tmp_path / "built.deb")
            assert b"more" not in built.path.read_bytes()
            assert built.path.stat().st_size < 1 << 11


@pytest.mark.parametrize("ending", [".gz", ".xz", ".zst"])
def test_data_without_its_checksum_is_refused(tmp_path: Path, ending: str) -> None:
    """All of the archive comes out of it; only the exit status of dpkg-deb says what is damaged."""
    whole = PACKERS[ending](make_tar())
    for number, data in enumerate([whole[:-1], whole[:-4] + b"\0\0\0\0"]):
        bad = make_deb(tmp_path / "bad.deb", data, ending)
        with pytest.raises(RamosError, match=r"sample_1: decompressing .* error"):
            deb.unpack(bad, tmp_path / f"bad{number}")


def test_data_of_another_package_is_refused(tmp_path: Path) -> None:
    """Sound data that the signed part does not name: nothing but the hash tells."""
    key, keys = apk_tools.make_keys(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("signed")
    fields = {"pkgname": "demo", "pkgver": "1-r0", "arch": "x86_64"}
    made = apk_pack.pack(
        apk_package.make_package(fields), tmp_path / "tree", tmp_path / "demo.apk", key
    )
    head = made.path.read_bytes()[: made.data_offset]
    made.path.write_bytes(head + gzip.compress(make_tar()))
    other = apk.read_package(made.path)
    with pytest.raises(RamosError, match="does not match its signed hash"):
        apk.verify_package(made.path, keys)
    with pytest.raises(RamosError, match="does not match its own hash"):
        apk.unpack(other, tmp_path / "out")


def test_bytes_behind_an_apk_are_refused(tmp_path: Path) -> None:
    """Its hash covers them too: whoever signs may not hide anything from one of two readers."""
    data = gzip.compress(make_tar()) + b"more"
    info = f"pkgname = demo\npkgver = 1-r0\narch = x86_64\ndatahash = {hash_bytes(data)}\n"
    control = gzip.compress(apk_tools.cut_tar({".PKGINFO": info.encode()}))
    (tmp_path / "demo.apk").write_bytes(control + data)
    with pytest.raises(RamosError, match=r"demo-1-r0: bytes follow the end of its data"):
        apk.unpack(apk.read_package(tmp_path / "demo.apk"), tmp_path / "out")


def hash_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", ["512", "513", "1024", "9" * 12])
def test_hostile_second_size_is_refused_by_name(size: str) -> None:
    members = read_tar(io.BytesIO(make_tar({"size": size})), "evil-1")
    with pytest.raises(RamosError, match=r"evil-1: 'file' has a second size"):
        next(members)


@pytest.mark.parametrize("size", ["0", "-1", "many"])
def test_hostile_second_size_that_ends_nowhere_is_refused(size: str) -> None:
    with pytest.raises(RamosError, match=r"cannot read package: evil-1: "):
        list(read_tar(io.BytesIO(make_tar({"size": size})), "evil-1"))


@pytest.mark.parametrize("size", [(8 << 30) + 1, 1 << 70])
def test_hostile_size_beyond_any_file_is_refused(size: int) -> None:
    info = tarfile.TarInfo("file")
    info.size = size
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(RamosError, match=r"evil-1: .*absurd size"):
        next(read_tar(io.BytesIO(header + bytes(1024)), "evil-1"))
