"""Alpine packages: round trips, against packages that other programs made, and what is refused."""

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.formats import apk, apk_pack, apk_package, apk_version, selection
from tests.labs import apk_tools

INFO = """# made by hand
pkgname = demo
pkgver = 1.2-r3
pkgdesc = words = and more
arch = x86_64
size = 4096
depend = so:libc.musl-x86_64.so.1
depend = busybox>=1.36
provides = cmd:demo=1.2-r3
triggers = /usr/bin /lib/modules/*
unknown = stays
"""
SCRIPTS = {"post-install": b"#!/bin/sh\nexit 0\n", "trigger": b"#!/bin/sh\nexit 1\n"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return apk_tools.make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def built(keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> apk_package.Package:
    work = tmp_path_factory.mktemp("built")
    tree = apk_tools.make_tree(work / "tree")
    fields = dict(line.split(" = ", 1) for line in INFO.splitlines()[1:] if "depend" not in line)
    package = apk_package.make_package({**fields, "depend": ["so:libc.musl-x86_64.so.1"]}, SCRIPTS)
    return apk_pack.pack(package, tree, work / "demo-1.2-r3.apk", keys[0])


def test_round_trip(built: apk_package.Package, keys: tuple[Path, Path], tmp_path: Path) -> None:
    package = apk.verify_package(built.path, keys[1], identity=built.identity, name="demo")
    assert package.scripts == SCRIPTS
    assert package.label == "demo-1.2-r3"
    assert package.fields["pkgdesc"] == "words = and more"
    names = apk.unpack(package, tmp_path / "out")
    tree = built.path.parent / "tree"
    assert apk_tools.list_tree(tmp_path / "out") == apk_tools.list_tree(tree)
    assert set(names) == set(apk_tools.list_tree(tree))


def test_the_same_input_gives_the_same_bytes(
    built: apk_package.Package, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    apk_pack.pack(built, built.path.parent / "tree", tmp_path / "again.apk", keys[0])
    apk_pack.rewrite(built, tmp_path / "rewritten.apk", keys[0], selection.Rewriting())
    assert (tmp_path / "again.apk").read_bytes() == built.path.read_bytes()
    assert (tmp_path / "rewritten.apk").read_bytes() == built.path.read_bytes()


def test_another_program_reads_what_we_pack(built: apk_package.Package, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    apk_tools.run_tool(
        *("tar", "--warning=no-unknown-keyword", "-xpzf", built.path, "--exclude=.[A-Zp]*"),
        *("--exclude=.trigger", "-C", out),
    )
    assert apk_tools.list_tree(out) == apk_tools.list_tree(built.path.parent / "tree")


def test_checksums_and_directories_stand_where_apk_needs_them(built: apk_package.Package) -> None:
    seen: set[str] = set()
    with tarfile.open(built.path, errors="surrogateescape") as tar:
        for header in tar:
            assert header.name.rpartition("/")[0] in {"", *seen}
            seen.add(header.name)
            checksum = header.pax_headers.get("APK-TOOLS.checksum.SHA1")
            if header.name.startswith("."):
                assert header.mode == (0o644 if header.name[1].isupper() else 0o755)
            elif header.isreg():
                content = tar.extractfile(header)
                assert content is not None
                assert checksum == hashlib.sha1(content.read()).hexdigest()
            elif header.issym():
                assert checksum == hashlib.sha1(header.linkname.encode()).hexdigest()
            else:
                assert checksum is None


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_packages_made_by_other_programs(
    digest: str, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    tree = apk_tools.make_tree(tmp_path / "tree")
    path = tmp_path / "hand.apk"
    control = apk_tools.build_by_hand(tree, INFO, keys[0], path, digest)
    package = apk.verify_package(path, keys[1])
    identity = subprocess.run(
        "openssl dgst -sha1 -binary | base64", shell=True, input=control, capture_output=True
    ).stdout
    assert package.identity == f"Q1{identity.decode().strip()}"
    assert package.depends == ("so:libc.musl-x86_64.so.1", "busybox>=1.36")
    assert package.triggers == ("/usr/bin", "/lib/modules/*")
    apk.unpack(package, tmp_path / "out", owners=False)
    made = {name: value[3] for name, value in apk_tools.list_tree(tmp_path / "out").items()}
    assert made == {name: value[3] for name, value in apk_tools.list_tree(tree).items()}


def test_rewriting_drops_what_it_should_and_keeps_the_rest(
    keys: tuple[Path, Path], tmp_path: Path
) -> None:
    tree = apk_tools.make_tree(tmp_path / "tree")
    apk_tools.build_by_hand(tree, INFO, keys[0], tmp_path / "hand.apk")
    source = apk.read_package(tmp_path / "hand.apk")
    change = selection.Rewriting(
        keep=lambda name: name != "usr" and not name.startswith("ä"),
        fields={"pkgver": "1.2-r3.1", "provides": None},
        scripts={"post-install": b"#!/bin/sh\n"},
    )
    made = apk_pack.rewrite(source, tmp_path / "made.apk", keys[0], change)
    read = apk.verify_package(tmp_path / "made.apk", keys[1], identity=made.identity)
    lines = read.info.splitlines()
    assert lines[0] == "# made by hand"
    assert "unknown = stays" in lines
    assert "depend = busybox>=1.36" in lines
    assert not [line for line in lines if line.startswith(("triggers", "provides"))]
    assert read.version == "1.2-r3.1"
    assert read.scripts == {"post-install": b"#!/bin/sh\n"}
    names = [member.name for member in read.members]
    assert names.index("usr") < names.index("usr/bin") < names.index("usr/bin/tool")
    assert not [name for name in names if name.startswith("ä")]


def test_a_package_without_files_but_with_scripts_is_installed(
    keys: tuple[Path, Path], tmp_path: Path
) -> None:
    fields = {"pkgname": "empty", "pkgver": "1-r0", "arch": "noarch"}
    (tmp_path / "tree").mkdir()
    plain = apk_pack.pack(
        apk_package.make_package(fields), tmp_path / "tree", tmp_path / "a.apk", keys[0]
    )
    assert plain.fields["size"] == "0"
    scripted = apk_package.make_package(fields, {"post-install": b"#!/bin/sh\n"})
    assert (
        apk_pack.pack(scripted, tmp_path / "tree", tmp_path / "b.apk", keys[0]).fields["size"]
        == "1"
    )


def test_hard_link_to_what_was_dropped_is_refused(
    built: apk_package.Package, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    change = selection.Rewriting(keep=lambda name: name != "usr/bin/tool")
    with pytest.raises(RamosError, match=r"demo-1\.2-r3: the hard link 'usr/bin/tool-again' stays"):
        apk_pack.rewrite(built, tmp_path / "out.apk", keys[0], change)
    assert list(tmp_path.iterdir()) == []


def test_wrong_key_unknown_key_and_no_signature(
    built: apk_package.Package, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    other, other_keys = apk_tools.make_keys(tmp_path, "other.rsa")
    with pytest.raises(RamosError, match=r"demo-1\.2-r3: .*not trusted \(test\.rsa\.pub\)"):
        apk.verify_package(built.path, other_keys)
    (other_keys / "other.rsa.pub").rename(other_keys / "test.rsa.pub")
    with pytest.raises(RamosError, match="BAD signature"):
        apk.verify_package(built.path, other_keys)
    unsigned = tmp_path / "unsigned.apk"
    start = built.data_offset - len(built.control)
    unsigned.write_bytes(built.path.read_bytes()[start:])
    assert apk.read_package(unsigned).identity == built.identity
    with pytest.raises(RamosError, match="it is not signed"):
        apk.verify_package(unsigned, keys[1])
    assert other.stat().st_mode & 0o777 == 0o600


def test_swapped_truncated_and_changed_packages(
    built: apk_package.Package, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(RamosError, match="the index names Q1other"):
        apk.verify_package(built.path, keys[1], identity="Q1other")
    whole = built.path.read_bytes()
    for size in (0, 3, 100, built.data_offset, built.data_offset + 10, len(whole) - 1):
        (tmp_path / "short.apk").write_bytes(whole[:size])
        with pytest.raises(RamosError, match=r"short\.apk|demo-1\.2-r3"):
            apk.verify_package(tmp_path / "short.apk", keys[1])
    changed = bytearray(whole)
    changed[built.data_offset + 500] ^= 1
    (tmp_path / "changed.apk").write_bytes(changed)
    with pytest.raises(RamosError, match="data does not match"):
        apk.verify_package(tmp_path / "changed.apk", keys[1])
    with pytest.raises(RamosError, match=r"demo-1\.2-r3"):
        apk.unpack(apk.read_package(tmp_path / "changed.apk"), tmp_path / "out")


def test_other_formats_are_named(tmp_path: Path) -> None:
    for start, reason in ((b"ADBd", "format v3"), (b"PK\3\4", "not an Alpine package")):
        (tmp_path / "x.apk").write_bytes(start * 100)
        with pytest.raises(RamosError, match=rf"x\.apk: .*{reason}"):
            apk.read_package(tmp_path / "x.apk")
    with pytest.raises(RamosError, match="No such file"):
        apk.read_package(tmp_path / "missing.apk")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners and attributes of root")
def test_extended_attributes_survive(keys: tuple[Path, Path], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "ping").touch()
    values = {"user.text": b"x", "user.binary": bytes(range(256)), "user.empty": b""}
    for key, value in values.items():
        os.setxattr(tree / "ping", key, value)
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(tree / "ping", "security.capability", capability)
    package = apk_package.make_package({"pkgname": "ping", "pkgver": "1-r0", "arch": "x86_64"})
    made = apk_pack.pack(package, tree, tmp_path / "ping.apk", keys[0])
    apk.unpack(made, tmp_path / "out")
    out = tmp_path / "out/ping"
    found = {key: os.getxattr(out, key) for key in os.listxattr(out)}
    assert found == {**values, "security.capability": capability}


VERSIONS = (
    "0.1_alpha_pre2 0.1_alpha 0.1_alpha2 0.1 0.1_p1 0.1a 1.00 1.0 1.0-r0 1.0-r10 1.06 1.0.1 1.1"
)


def test_versions_in_order() -> None:
    versions = VERSIONS.split()
    assert all(apk_version.is_valid(version) for version in versions)
    shuffled = versions[1::2] + versions[::2]
    assert sorted(shuffled, key=apk_version.sort_key) == versions
    assert apk_version.is_newer("6.12.60-r0", "6.12.40-r0")
    assert not apk_version.is_newer("6.12.40-r0", "6.12.40-r0")
    assert not apk_version.is_valid("latest")
