"""What the real apk makes of packages: made by other programs, packed by us, rewritten by us."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.formats import apk_index, apk_pack, apk_package, selection
from ramos.formats.apk import read_package, verify_package
from tests.labs import apk_tools
from tests.labs.alpine_mirror import ARCH
from tests.labs.apklab import Root, each_real_apk, make_root, sign_index

pytestmark = each_real_apk
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
ATTRIBUTES = {
    "user.text": b"x",
    "user.binary": bytes(range(256)),
    "security.capability": CAPABILITY,
}
INFO = f"""# made by hand
pkgname = demo
pkgver = 1.2-r3
pkgdesc = words = and more
url = none
arch = {ARCH}
license = none
size = 4096
provides = cmd:demo=1.2-r3
"""
FIELDS = dict(line.split(" = ", 1) for line in INFO.splitlines()[1:])
NAME = "demo-1.2-r3.apk"
Build = Callable[[Path, Path, Path], None]


def make_tree(home: Path) -> Path:
    tree = apk_tools.make_tree(home / "tree")
    os.chown(tree / "empty-file", 0, 0)  # by hand everything is root's
    for key, value in ATTRIBUTES.items():
        os.setxattr(tree / "big", key, value)
    return tree


def build_by_hand(tree: Path, key: Path, output: Path) -> None:
    apk_tools.build_by_hand(tree, INFO, key, output)


def pack(tree: Path, key: Path, output: Path) -> None:
    apk_pack.pack(apk_package.make_package(FIELDS), tree, output, key)


def rewrite(tree: Path, key: Path, output: Path) -> None:
    by_hand = output.with_name("by-hand.apk")
    build_by_hand(tree, key, by_hand)
    apk_pack.rewrite(read_package(by_hand), output, key, selection.Rewriting())
    by_hand.unlink()


def index_with_apk(root: Root, package: Path, key: Path) -> None:
    unsigned = root.path.parent / "unsigned.tar.gz"
    root.run("index", "--rewrite-arch", ARCH, "-d", "by apk", "-o", unsigned, package)
    sign_index(unsigned, key, package.with_name(apk_index.INDEX_NAME))


def index_ourselves(root: Root, package: Path, key: Path) -> None:
    del root
    output = package.with_name(apk_index.INDEX_NAME)
    apk_index.make_index([package], output, key, "by us", arch=ARCH)


def index_as_v3(root: Root, package: Path, key: Path) -> None:
    if root.is_old:
        pytest.skip("apk 2 knows no index of format v3")
    output = package.with_name("Packages.adb")
    root.run("mkndx", "-d", "by apk", "--sign-key", key, "-o", output, package)
    repositories = root.path / "etc/apk/repositories"
    repositories.write_text(f"v3 {repositories.read_text()}")


@pytest.mark.parametrize("index", [index_with_apk, index_ourselves, index_as_v3])
@pytest.mark.parametrize("build", [build_by_hand, pack, rewrite])
def test_a_package_is_installed_as_it_was_packed(
    apk: Path, tmp_path: Path, build: Build, index: Callable[[Root, Path, Path], None]
) -> None:
    key, keys = apk_tools.make_keys(tmp_path)
    tree = make_tree(tmp_path)
    package = tmp_path / "repository" / ARCH / NAME
    package.parent.mkdir(parents=True)
    build(tree, key, package)
    root = make_root(apk, tmp_path / "root", keys, str(tmp_path / "repository"))
    assert "OK" in root.run("verify", package)
    index(root, package, key)
    bare = root.list_files()
    root.run("add", "demo")
    expected = apk_tools.list_tree(tree)
    assert {n: v for n, v in root.list_files().items() if n not in bare} == expected
    big = root.path / "big"
    assert {name: os.getxattr(big, name) for name in os.listxattr(big)} == ATTRIBUTES
    assert f"C:{read_package(package).identity}" in root.read_record("demo")
    audit = ("audit", "--system", "--recursive", "--check-permissions")
    assert root.run(*audit).strip() == ""
    big.write_text("changed")
    (root.path / "long-link").unlink()
    assert len(root.run(*audit).split("\n")) > 2
    root.run("fix", "demo")
    assert {n: v for n, v in root.list_files().items() if n not in bare} == expected
    root.run("del", "demo")
    assert root.list_files() == bare


def test_apk_trusts_the_signature_that_we_trust(apk: Path, tmp_path: Path) -> None:
    """Both say no to an unsigned, a foreign and a changed package."""
    key, keys = apk_tools.make_keys(tmp_path)
    foreign, _ = apk_tools.make_keys(tmp_path, "foreign.rsa")
    tree = make_tree(tmp_path)
    root = make_root(apk, tmp_path / "root", keys)
    good, other = tmp_path / NAME, tmp_path / "other.apk"
    pack(tree, key, good)
    pack(tree, foreign, other)
    package = read_package(good)
    data = bytearray(good.read_bytes())
    unsigned = tmp_path / "unsigned.apk"
    unsigned.write_bytes(data[package.data_offset - len(package.control) :])
    data[package.data_offset + 500] ^= 1
    changed = tmp_path / "changed.apk"
    changed.write_bytes(data)
    short = tmp_path / "short.apk"
    short.write_bytes(good.read_bytes()[:-1])
    root.run("verify", good)
    verify_package(good, keys)
    for path in (other, unsigned, changed, short):
        root.run("verify", path, code=1)
        with pytest.raises(RamosError):
            verify_package(path, keys)
