"""A root tree from an Alpine-like mirror; and everything that a mirror can do wrong."""

import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from ramos.errors import RamosError, UsageError
from ramos.formats import apk, apk_index, apk_pack, selection
from ramos.formats.apk_pack import sign_member
from ramos.image import alpine, alpine_source
from ramos.image.plan import Plan, read_package_list
from tests.labs import alpine_mirror, alpine_root, apk_tools
from tests.labs.alpine_mirror import Mirror, Spec

MINIMAL = ("minimal", "lts", "firmware-none")


def list_specs() -> list[Spec]:
    """The toy packages, and an empty one for every other name of the minimal profile."""
    specs = alpine_mirror.list_toy_specs()
    known = {spec.name for spec in specs}
    names = [name for name in read_package_list("alpine", MINIMAL) if name not in known]
    community = ("py3-", "fsverity")
    return specs + [
        Spec(name, repository="community" if name.startswith(community) else "main")
        for name in names
    ]


@pytest.fixture(scope="module", params=alpine_root.EACH_TOOL, ids=str)
def original(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Mirror:
    directory = tmp_path_factory.mktemp("mirror")
    tool = request.param or alpine_root.provide_apk()
    return alpine_mirror.make_mirror(directory, list_specs(), tool=tool)


@pytest.fixture
def mirror(original: Mirror, tmp_path: Path) -> Mirror:
    """A copy of the mirror that a test may spoil."""
    shutil.copytree(original.path, tmp_path / "mirror", symlinks=True)
    return replace(original, path=tmp_path / "mirror")


@pytest.fixture
def plan(mirror: Mirror, tmp_path: Path) -> Plan:
    return Plan(
        base="alpine",
        output=tmp_path / "out.img",
        cache=tmp_path / "cache",
        profile="minimal",
        init="openrc",
        mirror=str(mirror.path),
        keys=mirror.keys,
    )


def build_tree(plan: Plan, name: str = "tree") -> tuple[Path, list[str]]:
    """What the image builder does with a base, and the lines that it showed."""
    tree = plan.cache.parent / name
    lines: list[str] = []
    source = alpine.resolve(plan)
    assert source.state
    alpine.bootstrap(plan, source, tree, plan.cache / "alpine", lines.append)
    alpine.configure(plan, tree)
    return tree, lines


def assert_nothing_ran(plan: Plan) -> None:
    assert not (plan.cache.parent / "tree/lib/apk/db").exists()


def test_a_root_tree_is_made(plan: Plan, mirror: Mirror) -> None:
    tree, lines = build_tree(plan)
    assert (tree / "boot/vmlinuz-lts").read_bytes() == b"kernel"
    assert (tree / "etc/eudev-script").read_text() == "ran\n"
    assert "disable_trigger=yes" in (tree / "etc/mkinitfs/mkinitfs.conf").read_text()
    assert "disable_trigger=1" in (tree / "etc/update-grub.conf").read_text()
    assert [line for line in lines if "mkinitfs-1.0-r0.trigger" in line]
    assert not (tree / "boot/initramfs-lts").exists()
    assert not list(tree.glob("etc/mkinitfs/*.apk-new"))
    assert [path.name for path in (tree / "etc/apk/keys").iterdir()] == ["test-1.rsa.pub"]
    assert f"#{mirror.path}/v3.23/main\n" in (tree / "etc/apk/repositories").read_text()
    world = (tree / "etc/apk/world").read_text().split()
    assert set(world) == set(alpine.list_packages(plan))
    assert "ttyS0::respawn:" in (tree / "etc/inittab").read_text()
    assert (tree / "etc/runlevels/boot/bootmisc").is_symlink()
    assert not (tree / "etc/runlevels/boot/hwclock").exists()
    assert [line for line in lines if "Installing linux-lts (6.12.40-r0)" in line]
    assert not (tree / "proc/self").exists()
    assert not list(plan.cache.rglob("*.part"))


def test_the_cache_is_used_again_and_checked(plan: Plan, mirror: Mirror) -> None:
    build_tree(plan)
    kept = next(plan.cache.rglob("busybox-1.0-r0.apk"))
    kept.write_bytes(kept.read_bytes()[:-5])
    before = {path: path.stat().st_mtime_ns for path in plan.cache.rglob("*.apk") if path != kept}
    build_tree(plan, "again")
    assert kept.read_bytes() == mirror.package("busybox").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_newer_package_changes_the_state(plan: Plan, mirror: Mirror) -> None:
    old = alpine.resolve(plan)
    build_tree(plan)
    alpine_mirror.add_package(mirror, Spec("eudev", version="1.1-r0"))
    (mirror.folder() / "eudev-1.0-r0.apk").unlink()
    alpine_mirror.write_indexes(mirror)
    assert alpine.resolve(plan).state != old.state
    build_tree(plan, "again")
    assert not list(plan.cache.rglob("eudev-1.0-r0.apk"))


def test_release_by_name(plan: Plan) -> None:
    assert alpine.resolve(plan).release == "v3.23"
    assert alpine.resolve(replace(plan, release="3.23")).release == "v3.23"
    with pytest.raises(RamosError, match=r"^unknown release: v9\.9: .*/mirror has no v9\.9/main"):
        alpine.resolve(replace(plan, release="9.9"))


@pytest.mark.parametrize("name", ["apk-tools-static", "busybox"])
def test_tampered_package(name: str, plan: Plan, mirror: Mirror) -> None:
    path = mirror.package(name)
    data = bytearray(path.read_bytes())
    data[apk.read_package(path).data_offset + 30] ^= 1
    path.write_bytes(data)
    with pytest.raises(RamosError, match=rf"^cannot trust: {name}-.*does not match its signed"):
        build_tree(plan)
    if name == "apk-tools-static":
        assert_nothing_ran(plan)


@pytest.mark.parametrize("name", ["apk-tools-static", "busybox"])
def test_package_that_the_index_does_not_mean(name: str, plan: Plan, mirror: Mirror) -> None:
    # The package is well signed and of the right size; the index, well signed too, names another.
    identity = apk.read_package(mirror.package(name)).identity
    index = mirror.folder() / "APKINDEX.tar.gz"
    with tarfile.open(index) as tar:
        content = tar.extractfile("APKINDEX")
        assert content is not None
        text = content.read().decode().replace(identity, f"Q1{'A' * 27}=")
    index.write_bytes(sign_member({"APKINDEX": text.encode()}, mirror.key))
    with pytest.raises(RamosError, match=rf"{name}-.*: the index names Q1.*, this is Q1"):
        build_tree(plan)
    if name == "apk-tools-static":
        assert_nothing_ran(plan)


def test_package_of_another_key(plan: Plan, mirror: Mirror, tmp_path: Path) -> None:
    other, _ = apk_tools.make_keys(tmp_path, "evil.rsa")
    path = mirror.package("apk-tools-static")
    apk_pack.rewrite(apk.read_package(path), path, other, selection.Rewriting())
    alpine_mirror.write_indexes(mirror)
    with pytest.raises(RamosError, match=r"apk-tools-static-.*not trusted \(evil\.rsa\.pub\)"):
        build_tree(plan)
    assert_nothing_ran(plan)


def test_index_of_another_key_and_unsigned(plan: Plan, mirror: Mirror, tmp_path: Path) -> None:
    _, other_keys = apk_tools.make_keys(tmp_path, "evil.rsa")
    message = r"^cannot trust: .*/mirror/latest-stable/main/x86_64/APKINDEX\.tar\.gz: "
    with pytest.raises(RamosError, match=message + ".*not trusted"):
        alpine.resolve(replace(plan, keys=other_keys))
    index = mirror.folder() / "APKINDEX.tar.gz"
    data = index.read_bytes()
    index.write_bytes(data[data.index(b"\x1f\x8b\x08", 10) :])
    with pytest.raises(RamosError, match=message + "it is not signed"):
        alpine.resolve(plan)
    index.write_bytes(data[:-30])
    with pytest.raises(RamosError, match=r"APKINDEX\.tar\.gz: .*truncated"):
        alpine.resolve(plan)
    with pytest.raises(RamosError, match=r"^cannot read keys: .*: there is no \*\.pub file"):
        alpine.resolve(replace(plan, keys=tmp_path / "cache"))


def test_truncated_and_missing_packages(plan: Plan, mirror: Mirror) -> None:
    path = mirror.package("eudev")
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    with pytest.raises(RamosError, match=r"eudev-1\.0-r0\.apk: \d+ bytes arrived, the index says"):
        build_tree(plan)
    path.unlink()
    with pytest.raises(RamosError, match=r"eudev-1\.0-r0\.apk: .*the mirror changed meanwhile"):
        build_tree(plan, "second")


def test_indexes_of_two_releases(plan: Plan, mirror: Mirror) -> None:
    index = mirror.folder("community") / "APKINDEX.tar.gz"
    apk_index.make_index([], index, mirror.key, "v3.24.0-1-gabc [community]")
    with pytest.raises(RamosError, match=r"of different releases \(v3\.23, v3\.24\)"):
        alpine.resolve(plan)


def test_unknown_package_and_missing_rescue_tools(plan: Plan) -> None:
    with pytest.raises(RamosError, match=r"^cannot find package: nosuch: neither"):
        build_tree(replace(plan, packages=("nosuch",)))
    assert_nothing_ran(plan)
    _, lines = build_tree(replace(plan, profile="rescue", firmware="none"))
    assert "WARNING: v3.23 has no testdisk: it is left out" in lines


def test_script_that_fails(plan: Plan, mirror: Mirror) -> None:
    scripts = {"post-install": "#!/bin/busybox sh\nexit 7\n"}
    alpine_mirror.add_package(mirror, Spec("bad", {"bad": b""}, scripts=scripts))
    alpine_mirror.write_indexes(mirror)
    with pytest.raises(RamosError, match=r"^cannot install packages: apk: .*bad-1\.0-r0.*7"):
        build_tree(replace(plan, packages=("bad",)))


def test_mirror_that_is_not_there(plan: Plan, tmp_path: Path) -> None:
    gone = replace(plan, mirror=str(tmp_path / "gone"))
    assert alpine.resolve(gone).state == ""
    assert "there is no such directory" in alpine.probe(gone)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert alpine.probe(replace(plan, mirror=f"http://127.0.0.1:{port}")).endswith("refused")


def test_no_mirror_is_known(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(alpine_source.MIRROR_VARIABLE, alpine_source.NO_MIRROR)
    nowhere = replace(plan, mirror="")
    assert "no Alpine mirror is known" in alpine.probe(nowhere)
    with pytest.raises(RamosError, match="no mirror is known") as caught:
        alpine.resolve(nowhere)
    assert "--mirror" in caught.value.hint
    monkeypatch.setenv(alpine_source.MIRROR_VARIABLE, plan.mirror)
    assert alpine.resolve(nowhere).state


def test_init_systems_that_alpine_has_not(plan: Plan) -> None:
    with pytest.raises(UsageError, match="Alpine has OpenRC"):
        alpine.resolve(replace(plan, init="systemd"))
    assert "OpenRC" in alpine.probe(replace(plan, init="systemd"))
    assert alpine.probe(replace(plan, init="")) == ""


@pytest.fixture
def server(mirror: Mirror) -> Iterator[str]:
    """The mirror over HTTP, from a thread of this process."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(mirror.path))  # type: ignore[arg-type]

        def log_message(self, *_arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        # The way back to the outer mount namespace is open to processes with one thread only.
        thread.join()


def test_a_mirror_over_http(plan: Plan, server: str) -> None:
    over_http = replace(plan, mirror=f"{server}/")
    assert alpine.probe(over_http) == ""
    tree, _ = build_tree(over_http)
    repositories = (tree / "etc/apk/repositories").read_text()
    assert repositories == f"{server}/v3.23/main\n{server}/v3.23/community\n"
