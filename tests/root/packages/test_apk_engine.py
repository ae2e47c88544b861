"""The package engine with the real apk: what a recipe promises is what is on the system then."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import kernels
from ramos.boot.esp import read_env
from ramos.boot.kernels import list_complete
from ramos.errors import RamosError
from ramos.formats import apk_index, apk_pack, selection
from ramos.formats.apk import read_package
from ramos.packages import alpine, change, engine, journal
from ramos.store.generations import read_default
from tests.labs import alpine_mirror, apk_tools
from tests.labs.alpine_mirror import Content, Spec
from tests.labs.apklab import FAILING, NEW, OLD, Lab, each_real_apk, make_kernel, make_lab
from tests.labs.packagelab import run_until

pytestmark = each_real_apk
NEWEST = "6.12.80-0-lts"


@pytest.fixture
def lab(apk: Path, tmp_path: Path, private_mounts: None) -> Lab:
    del private_mounts
    return make_lab(apk, tmp_path)


def read_identity(lab: Lab, name: str) -> str:
    return next(line for line in lab.root.read_record(name) if line.startswith("C:"))


def test_a_kernel_is_upgraded_and_its_recipe_holds(lab: Lab) -> None:
    root = lab.root.path
    assert (root / "boot/vmlinuz-lts").exists()
    assert f"/lib/modules/{OLD}" in lab.read_triggered()
    lab.publish(make_kernel(NEW, "6.12.60-r0"))
    report = lab.upgrade()
    assert report.kernels == (NEW,)
    assert "linux-lts@ramos" in lab.root.read_world()
    record = lab.root.read_record("linux-lts")
    assert "V:6.12.60-r0" in record
    assert "s:ramos" in record
    assert [line for line in record if "modules/" in line or line.startswith("R:vm")] == []
    assert list((root / "boot").glob(f"*{NEW}*")) == [], "the RAM is not for it"
    assert lab.read_triggered() == ["/boot", "/usr/share/kernel"]
    assert not (root / f"lib/modules/{NEW}").exists()
    assert (root / f"lib/modules/{OLD}/modules.builtin").exists(), "the running kernel's"
    env = read_env(lab.esp)
    assert (env.good, env.trial) == (OLD, NEW)
    assert kernels.is_whole(lab.esp, NEW)
    assert (lab.site.persist / layout.modules_image(NEW)).exists()
    assert not journal.journal_path(lab.site.persist).exists()
    assert lab.upgrade().packages == ()


def test_apk_itself_never_puts_the_stock_package_back(lab: Lab) -> None:
    lab.publish(make_kernel(NEW, "6.12.60-r0"))
    lab.upgrade()
    ours = read_identity(lab, "linux-lts")
    # The mirror's package of the same version, then a newer one.
    for spec in (make_kernel(NEW, "6.12.60-r0"), make_kernel(NEWEST, "6.12.80-r0")):
        lab.publish(spec, Spec("htop", {"usr/bin/htop": spec.version.encode()}, version="3.1-r0"))
        for words in (
            ["update"],
            ["upgrade"],
            ["upgrade", "-a"],
            ["fix"],
            ["fix", "linux-lts"],
            ["fix", "-r"],
            ["add", "htop"],
            ["add", "-u", "htop"],
        ):
            lab.root.run(*words)
            assert read_identity(lab, "linux-lts") == ours, words
        assert "linux-lts" not in lab.root.run("upgrade", "-a", "--simulate")
    assert "V:3.1-r0" in lab.root.read_record("htop")
    assert lab.upgrade().kernels == (NEWEST,)
    assert "V:6.12.80-r0" in lab.root.read_record("linux-lts")


def test_the_kernel_of_the_image_is_taken_over_in_the_same_version(lab: Lab) -> None:
    stock = read_identity(lab, "linux-lts")
    report = lab.add("linux-lts")
    assert report.kernels == (f"{OLD}+2",), "the initramfs differs, so the directory is another"
    assert read_identity(lab, "linux-lts") != stock
    assert (lab.root.path / f"lib/modules/{OLD}/modules.builtin").exists()
    assert sorted(list_complete(lab.esp)) == [OLD, f"{OLD}+2"]
    assert lab.root.run("audit", "--system").count("linux-lts") == 0


def test_a_second_kernel_comes_and_goes_and_the_last_stays(lab: Lab) -> None:
    other = replace(make_kernel("6.12.60-0-virt", "6.12.60-r0"), name="linux-virt")
    files = {name.replace("lts", "virt"): content for name, content in other.files.items()}
    scripts = {"post-install": FAILING, "pre-deinstall": FAILING}
    lab.publish(replace(other, files=files, scripts=scripts))
    lab.add("linux-virt")
    assert "6.12.60-0-virt" in list_complete(lab.esp)
    report = lab.remove("linux-virt")
    assert report.removed_kernels == ("6.12.60-0-virt",)
    assert lab.root.read_record("linux-virt") == []
    assert lab.root.read_world().count("linux-virt@ramos") == 0
    before = (lab.stick(), lab.root.read_world(), lab.root.read_record("linux-lts"))
    with pytest.raises(RamosError, match=r"cannot remove kernel.*the last kernel on this stick"):
        lab.remove("linux-lts")
    assert (lab.stick(), lab.root.read_world(), lab.root.read_record("linux-lts")) == before


def test_a_package_that_apk_cannot_install_leaves_nothing_behind(lab: Lab) -> None:
    """Only apk's own installation finds out that two packages have the same file."""
    clash: dict[str, Content] = {"etc/clash": b"ours"}
    lab.publish(Spec("owner", clash))
    lab.root.run("add", "owner")
    kernel = make_kernel(NEW, "6.12.60-r0")
    lab.publish(replace(kernel, files=dict(kernel.files) | clash))
    before = (lab.stick(), lab.root.read_world(), lab.root.read_record("linux-lts"))
    with pytest.raises(RamosError, match="trying to overwrite etc/clash"):
        lab.upgrade()
    record = lab.root.read_record("linux-lts")
    assert (record[1:4], lab.root.read_world()) == (before[2][1:4], before[1])
    assert journal.read_journal(lab.site.persist) is None
    assert list_complete(lab.esp) == [OLD]
    lab.publish(Spec("linux-virt", clash, version="1-r0"))
    with pytest.raises(RamosError, match="trying to overwrite etc/clash"):
        lab.add("linux-virt")
    assert lab.root.read_record("linux-virt") == []
    assert lab.root.read_world() == before[1]
    lab.publish(kernel)
    assert lab.upgrade().kernels == (NEW,)


def test_firmware_leaves_for_its_image(lab: Lab) -> None:
    blob: dict[str, Content] = {
        "lib/firmware/x/a b, c.bin": b"blob",
        "lib/firmware/x/link.bin": "a b, c.bin",
    }
    spec = Spec("linux-firmware-x", blob, scripts={"post-install": FAILING}, version="1-r0")
    lab.publish(spec)
    lab.add("linux-firmware-x")
    assert lab.root.read_record("linux-firmware-x")
    assert not (lab.root.path / "lib/firmware/x").exists()
    default = read_default(lab.site.persist)
    assert default is not None
    image = next(file.path for file in default.base if file.kind == "firmware")
    listing = subprocess.run(
        ["unsquashfs", "-l", "-d", "", lab.site.persist / image], capture_output=True, text=True
    ).stdout
    assert "/usr/lib/firmware/x/a b, c.bin" in listing
    assert "/usr/lib/firmware/x/link.bin" in listing
    assert "/usr/lib/firmware/built-in.bin" in listing
    lab.publish(Spec("viewer", depends=("linux-firmware-x",)))
    lab.root.run("add", "viewer")
    before = lab.stick()
    with pytest.raises(RamosError, match="cannot remove: linux-firmware-x: needed by viewer"):
        lab.remove("linux-firmware-x")
    assert lab.stick() == before
    lab.root.run("del", "viewer")
    lab.remove("linux-firmware-x")
    assert lab.root.read_record("linux-firmware-x") == []


def cut_signature(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[data.index(b"\x1f\x8b\x08", 10) :])


def sign_anew(path: Path) -> None:
    other, _ = apk_tools.make_keys(path.parents[4], "evil.rsa")
    apk_pack.rewrite(read_package(path), path, other, selection.Rewriting())


def make_foreign(lab: Lab) -> None:
    spec = replace(make_kernel(NEW, "6.12.60-r0"), arch="aarch64")
    alpine_mirror.add_package(lab.mirror, spec)
    alpine_mirror.write_indexes(lab.mirror)


# What is done to the mirror (the lab, its package), and what the error says.
Spoil = Callable[[Lab, Path], object]
OTHER = Spec("linux-lts", {"etc/x": b"x"}, version="6.12.60-r0")
CANNOT_FETCH = r"cannot fetch: linux-lts-6\.12\.60-r0"
BAD: dict[str, tuple[Spoil, str]] = {
    "unsigned": (lambda _, path: cut_signature(path), "linux-lts-6.12.60-r0: it is not signed"),
    "wrong key": (lambda _, path: sign_anew(path), r"linux-lts-6\.12\.60-r0: .*not trusted"),
    "swapped": (lambda lab, _: alpine_mirror.add_package(lab.mirror, OTHER), CANNOT_FETCH),
    "truncated": (lambda _, path: path.write_bytes(path.read_bytes()[:-20]), CANNOT_FETCH),
    "wrong arch": (lambda lab, _: make_foreign(lab), r"linux-lts-6\.12\.60-r0: it is for aarch64"),
    "unknown format": (
        lambda _, path: path.write_bytes(b"ADBd" + path.read_bytes()[4:]),
        CANNOT_FETCH,
    ),
    "unsigned index": (
        lambda _, path: cut_signature(path.with_name(apk_index.INDEX_NAME)),
        r"cannot (trust|refresh): .*(APKINDEX|package lists)",
    ),
    "gone": (lambda _, path: path.unlink(), CANNOT_FETCH),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_mirror_changes_nothing(lab: Lab, case: str) -> None:
    spoil, message = BAD[case]
    lab.publish(make_kernel(NEW, "6.12.60-r0"))
    spoil(lab, lab.mirror.package("linux-lts"))
    before = (lab.stick(), lab.root.read_world(), lab.root.read_record("linux-lts"))
    with pytest.raises(RamosError, match=message) as caught:
        lab.upgrade()
    assert caught.value.state.startswith("Nothing")
    assert (lab.stick(), lab.root.read_world(), lab.root.read_record("linux-lts")) == before


def test_an_older_mirror_downgrades_nothing(lab: Lab) -> None:
    lab.publish(make_kernel(NEW, "6.12.60-r0"))
    lab.upgrade()
    lab.publish(make_kernel(OLD, "6.12.40-r0"))
    before = (lab.stick(), lab.root.read_record("linux-lts"))
    assert lab.upgrade().packages == ()
    assert (lab.stick(), lab.root.read_record("linux-lts")) == before


def test_what_no_recipe_matches_and_what_no_mirror_has(lab: Lab) -> None:
    before = (lab.stick(), lab.root.read_world())
    with pytest.raises(RamosError, match="no recipe matches: htop: it is an ordinary package"):
        lab.add("htop")
    with pytest.raises(RamosError, match="no such package: linux-edge: no mirror has it"):
        lab.add("linux-edge")
    assert (lab.stick(), lab.root.read_world()) == before


@pytest.fixture
def server(lab: Lab) -> Iterator[str]:
    """The mirror over HTTP, from a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with subprocess.Popen(
        words, cwd=lab.mirror.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while True:
                assert process.poll() is None
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
            yield f"http://127.0.0.1:{port}/{alpine_mirror.BRANCH}/main"
        finally:
            process.terminate()


def test_a_mirror_that_changes_or_ends_half_way(lab: Lab, server: str) -> None:
    (lab.root.path / "etc/apk/repositories").write_text(f"{server}\n")
    lab.publish(make_kernel(NEW, "6.12.60-r0"))
    lab.root.run("update")
    lab.publish(make_kernel(NEWEST, "6.12.80-r0"))
    before = (lab.stick(), lab.root.read_world(), lab.root.read_record("linux-lts"))
    lab.site.work.mkdir()
    with pytest.raises(RamosError, match=r"cannot fetch: linux-lts-6\.12\.60-r0") as caught:
        engine.bring(lab.site, engine.find_newer(lab.site), lab.say)
    assert "apk update" in caught.value.hint
    (lab.root.path / "etc/apk/repositories").write_text("http://127.0.0.1:1/main\n")
    with pytest.raises(RamosError, match="cannot refresh: the package lists") as caught:
        lab.upgrade()
    assert (lab.stick(), lab.root.read_world(), lab.root.read_record("linux-lts")) == before
    (lab.root.path / "etc/apk/repositories").write_text(f"{server}\n")
    assert lab.upgrade().kernels == (NEWEST,)


@pytest.mark.parametrize("cut", ["publish-after-rename:APKINDEX.tar.gz", "kernel-complete", ""])
def test_the_repository_is_as_it_was_after_a_change_that_did_not_come_about(
    lab: Lab, cut: str
) -> None:
    lab.publish(make_kernel(NEW, "6.12.60-r0"))
    lab.upgrade()
    before = {path: path.read_bytes() for path in alpine.list_packages(lab.site)}
    record = lab.root.read_record("linux-lts")
    if cut:
        lab.publish(make_kernel(NEWEST, "6.12.80-r0"))
        run_until(cut, lab.upgrade)
    else:
        lab.publish(Spec("owner", {"etc/clash": b"x"}))
        lab.root.run("add", "owner")
        spec = make_kernel(NEWEST, "6.12.80-r0")
        lab.publish(replace(spec, files={**spec.files, "etc/clash": b"y"}))
        with pytest.raises(RamosError, match="trying to overwrite etc/clash"):
            lab.upgrade()
    with engine.workplace(lab.site):
        assert bool(change.recover(lab.site).undone) == bool(cut)
    assert {path: path.read_bytes() for path in alpine.list_packages(lab.site)} == before
    lab.root.run("fix", "linux-lts")
    lab.root.run("fix", "-r", "linux-lts")
    assert lab.root.read_record("linux-lts")[1:4] == record[1:4]
    lab.publish(make_kernel(NEWEST, "6.12.80-r0"))
    assert lab.upgrade().trial == NEWEST
    assert [path.name for path in alpine.list_packages(lab.site)] == ["linux-lts-6.12.80-r0.apk"]
    lab.root.run("fix", "linux-lts")
