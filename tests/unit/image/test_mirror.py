"""What a mirror sends: half a file, one without an end, an index that nobody signed."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.formats import apk_index, apk_pack, apk_package
from ramos.image import alpine_source, mirror
from ramos.image.plan import Plan
from tests.labs import apk_tools

BRANCH = "v3.23"


@contextlib.contextmanager
def serve(answer: bytes) -> Iterator[str]:
    """A mirror that says the same to everybody, and hangs up."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            with contextlib.suppress(OSError):
                self.wfile.write(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("head", "size", "reason"),
    [
        (b"Content-Length: 1000\r\n", 500, "500 of 1000 bytes arrived"),
        (b"", 5000, "larger than 2.0 KiB"),
        (b"Content-Length: 5000\r\n", 5000, "larger than 2.0 KiB"),
        (b"", 999, "999 bytes arrived, the index says 1000"),
    ],
)
def test_half_a_file_and_one_without_an_end_are_not_used(
    tmp_path: Path, head: bytes, size: int, reason: str
) -> None:
    expected = 1000 if size == 999 else None
    answer = b"HTTP/1.0 200 OK\r\n" + head + b"\r\n" + b"x" * size
    with serve(answer) as url, pytest.raises(RamosError, match=reason):
        mirror.fetch(url, "f", tmp_path / "f", limit_bytes=2000, expected_bytes=expected, tries=1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_an_end_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/f").write_bytes(bytes(2001))
    with pytest.raises(RamosError, match=r"larger than 2\.0 KiB"):
        mirror.fetch(str(tmp_path / "mirror"), "f", tmp_path / "f", limit_bytes=2000)
    assert [path.name for path in tmp_path.iterdir()] == ["mirror"]


def test_a_whole_file_comes(tmp_path: Path) -> None:
    with serve(b"HTTP/1.0 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000) as url:
        mirror.fetch(url, "f", tmp_path / "f", limit_bytes=2000, expected_bytes=2000)
    assert (tmp_path / "f").read_bytes() == b"x" * 2000


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Of a mirror that is a directory, with one package in each of its repositories."""
    key, keys = apk_tools.make_keys(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("content")
    for name in alpine_source.REPOSITORIES:
        folder = tmp_path / "mirror" / BRANCH / name / alpine_source.ARCH
        folder.mkdir(parents=True)
        fields = {"pkgname": f"of-{name}", "pkgver": "1-r0", "arch": "x86_64"}
        package = apk_package.make_package(fields)
        apk_pack.pack(package, tmp_path / "tree", folder / package.file_name, key)
        index = folder / apk_index.INDEX_NAME
        apk_index.make_index(folder.glob("*.apk"), index, key, f"{BRANCH}.0 {name}")
    where = str(tmp_path / "mirror")
    return Plan(
        "alpine", tmp_path / "out", tmp_path / "cache", release="3.23", mirror=where, keys=keys
    )


def test_a_bad_index_does_not_replace_a_good_one(plan: Plan, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    place = alpine_source.fetch_indexes(plan, downloads).place
    kept = alpine_source.index_path(place, "main")
    good = kept.read_bytes()
    stranger, _ = apk_tools.make_keys(tmp_path, "stranger.rsa")
    folder = tmp_path / "mirror" / BRANCH / "main" / alpine_source.ARCH
    bad = folder / apk_index.INDEX_NAME
    apk_index.make_index(folder.glob("*.apk"), bad, stranger, f"{BRANCH}.1 main")
    with pytest.raises(RamosError, match="not trusted"):
        alpine_source.fetch_indexes(plan, downloads)
    assert kept.read_bytes() == good


@pytest.mark.parametrize("cached", [False, True])
def test_a_package_that_is_not_the_named_one_is_not_kept(
    plan: Plan, tmp_path: Path, cached: bool
) -> None:
    """Of the same size; from the mirror, and from a cache that somebody changed."""
    repositories = alpine_source.fetch_indexes(plan, tmp_path / "downloads")
    found = repositories.find("of-main")
    assert found is not None
    name = f"main/{alpine_source.ARCH}/{found[1].file_name}"
    source = tmp_path / "mirror" / BRANCH / name
    kept = repositories.place / name
    good = source.read_bytes()
    bad = good[:-9] + bytes([good[-9] ^ 1]) + good[-8:]
    if cached:
        kept.write_bytes(bad)
        alpine_source.fetch_packages(plan, repositories, [found], lambda _: None)
        assert kept.read_bytes() == good
        return
    source.write_bytes(bad)
    with pytest.raises(RamosError, match="does not match its signed hash"):
        alpine_source.fetch_packages(plan, repositories, [found], lambda _: None)
    assert not kept.exists()
