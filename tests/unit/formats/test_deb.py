"""Debian packages: the same as dpkg-deb reads and writes, and hostile ones are refused."""

import contextlib
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ramos.errors import RamosError
from ramos.formats import deb
from ramos.formats.deb_package import change_package, describe
from tests.labs.debfile import MAGIC, write_ar

CONTROL = b"""Package: sample
Version: 1:2.0-1
Architecture: amd64
Maintainer: A <a@example.org>
Depends: libc6 (>= 2), one | two
Description: a sample
 with a second line
"""
pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


def make_tree(top: Path) -> Path:
    """A tree as a package has it: links, setuid, empty directories, long and odd names."""
    (top / "DEBIAN").mkdir(parents=True)
    (top / "DEBIAN/control").write_bytes(CONTROL)
    (top / "DEBIAN/conffiles").write_text("/etc/sample.conf\n/etc/moved.conf\n")
    for name in ("preinst", "postinst"):
        (top / "DEBIAN" / name).write_text(f"#!/bin/sh\necho {name}\n")
        (top / "DEBIAN" / name).chmod(0o755)
    files = ["etc/sample.conf", "etc/moved.conf", "usr/bin/tool", "lib/modules/6/ä ö.ko"]
    files += [f"usr/share/{'d' * 90}/{'n' * 120}"]
    for name in files:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"content of {name}\n")
        os.utime(top / name, (1_600_000_000, 1_600_000_000))
    (top / "usr/bin/tool").chmod(0o4755)
    (top / "usr/bin/same").hardlink_to(top / "usr/bin/tool")
    (top / "usr/bin/link").symlink_to("tool")
    (top / f"usr/bin/{'l' * 110}").symlink_to("../share/" + "d" * 90 + "/" + "n" * 120)
    (top / "var/empty").mkdir(parents=True)
    return top


def build(tmp_path: Path, compression: str = "xz") -> Path:
    tree = make_tree(tmp_path / "tree")
    output = tmp_path / f"sample-{compression}.deb"
    options = ["--root-owner-group", f"-Z{compression}", "--uniform-compression"]
    subprocess.run(["dpkg-deb", *options, "-b", tree, output], check=True, capture_output=True)
    return output


def list_tree(top: Path) -> dict[str, tuple[object, ...]]:
    """All that matters of a tree."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        state = path.lstat()
        content: object = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = (path.read_bytes(), state.st_nlink, state.st_mtime_ns)
        found[str(path.relative_to(top))] = (oct(state.st_mode), content)
    return found


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd", "none"])
def test_reads_and_unpacks_what_dpkg_deb_built(tmp_path: Path, compression: str) -> None:
    path = build(tmp_path, compression)
    package = deb.read_package(path)
    assert (package.name, package.version, package.arch) == ("sample", "1:2.0-1", "amd64")
    assert package.depends == ("libc6 (>= 2)", "one | two")
    assert package.fields["Description"] == "a sample\n with a second line"
    assert package.file_name == "sample_1%3a2.0-1_amd64.deb"
    assert set(package.scripts) == {"preinst", "postinst"}
    deb.unpack(package, tmp_path / "ours")
    subprocess.run(["dpkg-deb", "-x", path, tmp_path / "theirs"], check=True)
    assert list_tree(tmp_path / "ours") == list_tree(tmp_path / "theirs")


def test_a_changed_package_is_what_dpkg_deb_understands(tmp_path: Path) -> None:
    package = deb.read_package(build(tmp_path))
    deb.unpack(package, tmp_path / "staying")
    shutil.rmtree(tmp_path / "staying/lib/modules/6")
    (tmp_path / "staying/etc/moved.conf").unlink()
    fields = {"Depends": "one | two", "Ramos-Recipe": "sample", "Maintainer": None}
    scripts = {"preinst": None, "postinst": b"#!/bin/sh\nexit 0\n"}
    output = tmp_path / "new.deb"
    changed = deb.build(change_package(package, fields, scripts), tmp_path / "staying", output)
    subprocess.run(["dpkg-deb", "-R", output, tmp_path / "raw"], check=True)
    control = (tmp_path / "raw/DEBIAN/control").read_text()
    assert "Depends: one | two\n" in control
    assert "Ramos-Recipe: sample\n" in control
    assert "Maintainer" not in control
    assert control.index("Description") < control.index("Installed-Size")
    assert (tmp_path / "raw/DEBIAN/conffiles").read_text() == "/etc/sample.conf\n"
    assert not (tmp_path / "raw/DEBIAN/preinst").exists()
    assert (tmp_path / "raw/DEBIAN/postinst").stat().st_mode & 0o777 == 0o755
    sums = subprocess.run(
        ["md5sum", "-c", "--quiet", "DEBIAN/md5sums"], cwd=tmp_path / "raw", check=False
    )
    assert sums.returncode == 0
    assert "lib/modules/6" not in (tmp_path / "raw/DEBIAN/md5sums").read_text()
    before, after = list_tree(tmp_path / "tree"), list_tree(tmp_path / "raw")
    for name in [n for n in before if n.startswith(("lib/modules/6", "etc/moved", "DEBIAN"))]:
        before.pop(name)
    kept = {name: entry for name, entry in after.items() if not name.startswith("DEBIAN")}
    assert kept == before
    assert changed.scripts == {"postinst": b"#!/bin/sh\nexit 0\n"}


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    """Whatever was taken out of its directories, and whenever."""
    package = deb.read_package(build(tmp_path, "zstd"))
    for name in ("one", "two"):
        deb.unpack(package, tmp_path / name)
        (tmp_path / name / "etc/moved.conf").unlink()
        os.utime(tmp_path / name / "var/empty")
        deb.build(package, tmp_path / name, tmp_path / f"{name}.deb")
        time.sleep(1.1)
    assert (tmp_path / "one.deb").read_bytes() == (tmp_path / "two.deb").read_bytes()


def test_a_package_with_a_control_directory_among_its_files_is_refused(tmp_path: Path) -> None:
    entries = [entry("./DEBIAN", tarfile.SYMTYPE, "usr"), entry("./usr/a")]
    package = deb.read_package(make_deb(tmp_path / "bad.deb", entries))
    deb.unpack(package, tmp_path / "box")
    with pytest.raises(RamosError, match=r"sample_1:2.0-1: it holds DEBIAN"):
        deb.build(package, tmp_path / "box", tmp_path / "new.deb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.deb", "box"]
    assert [path.name for path in (tmp_path / "box/usr").iterdir()] == ["a"]


def make_deb(
    path: Path,
    entries: list[tarfile.TarInfo],
    *,
    control: bytes = CONTROL,
    magic: bytes = MAGIC,
    data_name: str = "data.tar.gz",
) -> Path:
    """A package of any entries."""
    info = tarfile.TarInfo("./control")
    info.size = len(control)
    members = [
        ("debian-binary", magic),
        ("control.tar.gz", make_tar([(info, control)])),
        (data_name, make_tar([(entry, b"x" * entry.size) for entry in entries])),
    ]
    return write_ar(path, members)


def read_all(path: Path) -> None:
    list(deb.read_members(deb.read_package(path)))


def make_tar(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(output.getvalue(), mtime=0)


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 3
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.size = size if kind == tarfile.REGTYPE else 0
    return info


HOSTILE: dict[str, list[tarfile.TarInfo]] = {
    "traversal": [entry("./../../escaped")],
    "absolute": [entry("/tmp/escaped")],
    "link out": [entry("./a", tarfile.SYMTYPE, "../../escaped")],
    "below a link": [entry("./a", tarfile.SYMTYPE, "/tmp"), entry("./a/escaped")],
    "through a link": [entry("./a", tarfile.SYMTYPE, "/tmp/escaped"), entry("./a")],
    "hard link out": [entry("./a", tarfile.LNKTYPE, "../../etc/passwd")],
    "hard link to nothing": [entry("./a", tarfile.LNKTYPE, "./b")],
    "device": [entry("./dev/sda", tarfile.BLKTYPE)],
    "pipe": [entry("./p", tarfile.FIFOTYPE)],
    "twice": [entry("./a"), entry("./a")],
    "long name": [entry("./" + "a" * 300)],
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_package_is_refused_by_name(
    tmp_path: Path, entries: list[tarfile.TarInfo]
) -> None:
    package = deb.read_package(make_deb(tmp_path / "bad.deb", entries))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RamosError, match=re.escape("sample_1:2.0-1")):
        deb.unpack(package, tmp_path / "box")
    assert [p for p in sorted(tmp_path.iterdir()) if p.name != "box"] == before
    assert not Path("/tmp/escaped").exists()


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    package = deb.read_package(make_deb(tmp_path / "bomb.deb", [entry("./big", size=80 << 20)]))
    with pytest.raises(RamosError, match="unpacks to more than"):
        deb.unpack(package, tmp_path / "box")
    with pytest.raises(RamosError, match="unpacks to more than"):
        list(deb.read_members(package))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"magic": b"3.0\n"}, "version 3.0; get a newer dpkg-deb"),
        ({"control": CONTROL.replace(b"Version", b"Versoin")}, "does not say Version"),
        ({"control": CONTROL + b"version: 3\n"}, "says version twice"),
        ({"control": CONTROL.replace(b"sample", b"../x")}, "no name, version and architecture"),
        ({"control": b"\n\n"}, "no field"),
        ({"data_name": "data.tar.lz4"}, "unknown compression .*data.tar.lz4"),
        ({"data_name": "datum.tar.gz"}, "premature member .*datum.tar.gz"),
    ],
)
def test_a_wrong_package_is_refused(tmp_path: Path, change: dict[str, bytes], reason: str) -> None:
    path = make_deb(tmp_path / "bad.deb", [], **change)  # type: ignore[arg-type]
    with pytest.raises(RamosError, match=reason):
        read_all(path)


def test_truncation_is_noticed_everywhere(tmp_path: Path) -> None:
    whole = make_deb(tmp_path / "a.deb", [entry("./a", size=2000)]).read_bytes()
    path = tmp_path / "cut.deb"
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(RamosError):
            read_all(path)


def test_verification_compares_with_the_index(tmp_path: Path) -> None:
    path = make_deb(tmp_path / "a.deb", [entry("./a")])
    sha256, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
    good = {"sha256": sha256, "size_bytes": size, "name": "sample", "version": "1:2.0-1"}
    deb.verify_package(path, **good, arch="amd64")  # type: ignore[arg-type]
    wrong: list[tuple[dict[str, object], str]] = [
        ({"sha256": "0" * 64}, "the index says sha256"),
        ({"size_bytes": size + 1}, "the index says"),
        ({"name": "other"}, "its name should be other"),
        ({"version": "1:2.0-2"}, "its version should be"),
        ({"arch": "arm64"}, "it is for amd64"),
    ]
    for change, reason in wrong:
        with pytest.raises(RamosError, match=reason):
            deb.verify_package(path, **{**good, **change})  # type: ignore[arg-type]


def test_a_package_needs_a_name() -> None:
    with pytest.raises(RamosError, match="does not say Package"):
        describe({}, {}, {}, "x")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_mutated_packages_give_errors_only(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    top = tmp_path_factory.mktemp("fuzz")
    kinds = [entry("./a/b"), entry("./l", tarfile.SYMTYPE, "a"), entry("./c", size=700)]
    whole = bytearray(make_deb(top / "a.deb", kinds).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(whole) - 1))
        what = data.draw(st.binary(min_size=0, max_size=8))
        whole[where : where + data.draw(st.integers(0, 8))] = what
    (top / "a.deb").write_bytes(whole)
    box = top / "out" / "box"
    with contextlib.suppress(RamosError):
        deb.unpack(deb.read_package(top / "a.deb"), box)
    assert {path.name for path in top.iterdir()} <= {"a.deb", "out"}
    assert (
        {path.name for path in (top / "out").iterdir()} <= {"box"} if box.parent.exists() else True
    )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_mutated_archives_give_errors_only(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """The same below the compression, where checksums no longer catch what was changed."""
    top = tmp_path_factory.mktemp("fuzz")
    plain = bytearray(gzip.decompress(make_tar([(entry("./a/b"), b"xyz")])))
    for _ in range(data.draw(st.integers(1, 6))):
        where = data.draw(st.integers(0, 1023))
        what = data.draw(st.binary(min_size=1, max_size=12))
        plain[where : where + len(what)] = what
    info = tarfile.TarInfo("./control")
    info.size = len(CONTROL)
    members = [("debian-binary", MAGIC), ("control.tar.gz", make_tar([(info, CONTROL)]))]
    write_ar(top / "a.deb", [*members, ("data.tar", bytes(plain))])
    with contextlib.suppress(RamosError):
        deb.unpack(deb.read_package(top / "a.deb"), top / "out" / "box")
    assert {path.name for path in top.iterdir()} <= {"a.deb", "out"}
