"""The index of a repository: made, signed, read again; damaged and unsigned ones are refused."""

import tarfile
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.formats import apk, apk_index, apk_pack, apk_package
from ramos.formats.apk_pack import sign_member
from tests.labs import apk_tools

RECORD = "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:demo\nV:1-r0\nS:10\n\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A directory with some packages and their index, the private key, the public keys."""
    work = tmp_path_factory.mktemp("repository")
    key, keys = apk_tools.make_keys(work)
    (work / "tree/usr").mkdir(parents=True)
    (work / "tree/usr/file").write_text("x" * 1000)
    for name, version in (("demo", "1.9-r0"), ("demo", "1.10-r0"), ("other", "2-r0")):
        package = apk_package.make_package(
            {
                "pkgname": name,
                "pkgver": version,
                "arch": "x86_64",
                "pkgdesc": "Größe",
                "origin": "demo",
                "depend": ["busybox", "so:libc.so"],
                "provides": [f"cmd:{name}=1"],
            }
        )
        apk_pack.pack(package, work / "tree", work / package.file_name, key)
    apk_index.make_index(work.glob("*.apk"), work / "APKINDEX.tar.gz", key, "v3.23 main")
    return work, key, keys


def test_index_names_what_the_packages_are(repository: tuple[Path, Path, Path]) -> None:
    work, _, keys = repository
    index = apk_index.read_index(work / "APKINDEX.tar.gz", keys)
    assert index.description == "v3.23 main"
    entry = index.need_newest("demo")
    assert (entry.version, entry.file_name) == ("1.10-r0", "demo-1.10-r0.apk")
    package = apk.verify_package(work / entry.file_name, keys, identity=entry.identity)
    assert entry.size_bytes == package.path.stat().st_size
    assert entry.depends == package.depends
    assert entry.fields["T"] == "Größe"
    assert [found.version for found in index.entries["demo"]] == ["1.10-r0", "1.9-r0"]
    with pytest.raises(RamosError, match=r"cannot find package: nothing: .*APKINDEX"):
        index.need_newest("nothing")


def test_index_is_reproducible_and_readable_by_tar(
    repository: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    work, key, _ = repository
    again = tmp_path / "APKINDEX.tar.gz"
    apk_index.make_index(sorted(work.glob("*.apk"))[::-1], again, key, "v3.23 main")
    assert again.read_bytes() == (work / "APKINDEX.tar.gz").read_bytes()
    with tarfile.open(again) as tar:
        assert tar.getnames()[1:] == ["DESCRIPTION", "APKINDEX"]


def test_packages_for_every_architecture_lie_with_the_others(tmp_path: Path) -> None:
    key, keys = apk_tools.make_keys(tmp_path)
    (tmp_path / "tree").mkdir()
    package = apk_package.make_package({"pkgname": "fw", "pkgver": "1-r0", "arch": "noarch"})
    path = tmp_path / package.file_name
    apk_pack.pack(package, tmp_path / "tree", path, key)
    apk_index.make_index([path], tmp_path / "a.tar.gz", key, "local", arch="x86_64")
    entry = apk_index.read_index(tmp_path / "a.tar.gz", keys).need_newest("fw")
    assert entry.fields["A"] == "x86_64"
    (tmp_path / "other.apk").write_bytes(path.read_bytes())
    with pytest.raises(RamosError, match=r"other\.apk: apk would look for it as fw-1-r0\.apk"):
        apk_index.make_index([tmp_path / "other.apk"], tmp_path / "b.tar.gz", key, "local")


def test_unsigned_foreign_and_changed_indexes(
    repository: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    work, _, keys = repository
    whole = (work / "APKINDEX.tar.gz").read_bytes()
    _, other_keys = apk_tools.make_keys(tmp_path, "other.rsa")
    with pytest.raises(RamosError, match=r"not trusted \(test\.rsa\.pub\)"):
        apk_index.read_index(work / "APKINDEX.tar.gz", other_keys)
    path = tmp_path / "APKINDEX.tar.gz"
    path.write_bytes(whole[whole.index(b"\x1f\x8b\x08", 10) :])
    with pytest.raises(RamosError, match="it is not signed"):
        apk_index.read_index(path, keys)
    for size in (0, 50, len(whole) - 20):
        path.write_bytes(whole[:size])
        with pytest.raises(RamosError, match="APKINDEX"):
            apk_index.read_index(path, keys)
    path.write_bytes(whole + b"more")
    with pytest.raises(RamosError, match="bytes follow"):
        apk_index.read_index(path, keys)


@pytest.mark.parametrize(
    "record",
    [
        RECORD.replace("demo", "../demo"),
        RECORD.replace("1-r0", "1/../../r0"),
        RECORD.replace("Q1A", "Q2A"),
        RECORD.replace("S:10", "S:ten"),
        RECORD.replace("S:10", "P:demo"),
        RECORD.replace("S:10", "nonsense"),
    ],
)
def test_bad_records_are_refused(
    record: str, repository: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "APKINDEX.tar.gz"
    path.write_bytes(sign_member({"APKINDEX": record.encode()}, repository[1]))
    with pytest.raises(RamosError, match="APKINDEX"):
        apk_index.read_index(path, repository[2])
