"""The package engine on a real root tree, with the real apt and dpkg, and a mirror of its own.

What FAT does to the order of writes is proved in the crash tests.
"""

import subprocess
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import grubenv, kernels
from ramos.boot.esp import read_env
from ramos.boot.kernels import list_complete
from ramos.errors import RamosError, UsageError
from ramos.packages import engine, journal
from ramos.store.generations import read_default
from tests.labs.packagelab import (
    FAILING,
    NEW,
    OLD,
    Lab,
    add_firmware,
    add_kernel,
    make_lab,
    read_image,
)


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None, monkeypatch: pytest.MonkeyPatch) -> Lab:
    del private_mounts
    return make_lab(tmp_path, monkeypatch)


def test_a_kernel_is_added_upgraded_and_removed(lab: Lab, tmp_path: Path) -> None:
    add_kernel(lab.mirror, OLD, "6.1.1-1")
    lab.mirror.publish()
    lab.add("linux-image-test")
    assert lab.status("linux-image-test") == "ii  6.1.1-1"
    assert lab.status(f"linux-image-{OLD}") == "ii  6.1.1-1"
    assert not (lab.site.root / f"boot/vmlinuz-{OLD}").exists()
    assert (lab.site.root / f"boot/config-{OLD}").exists()
    add_kernel(lab.mirror, NEW, "6.1.2-1")
    lab.mirror.publish()
    report = lab.upgrade()
    assert report.kernels == (NEW,)
    assert lab.status("linux-image-test") == "ii  6.1.2-1"
    env = read_env(lab.esp)
    assert (env.good, env.trial) == (OLD, NEW)
    folder = lab.esp / "kernels" / NEW
    assert (folder / "vmlinuz").read_bytes() == f"kernel {NEW} 6.1.2-1".encode() * 1000
    assert kernels.is_whole(lab.esp, NEW)
    sums = subprocess.run(
        ["sha256sum", "-c", "sha256"], cwd=folder, capture_output=True, check=False
    )
    assert sums.returncode == 0
    modules = read_image(lab.site.persist / layout.modules_image(NEW), tmp_path)
    assert f"usr/lib/modules/{NEW}/modules.dep" in modules
    default = read_default(lab.site.persist)
    assert default is not None
    assert layout.modules_image(NEW) in [file.path for file in default.base]
    assert layout.modules_image(OLD) in [file.path for file in default.base]
    assert not journal.journal_path(lab.site.persist).exists()
    assert lab.upgrade().packages == ()
    assert "ramos pkg upgrade" not in lab.apt("update").stdout
    assert not [line for line in lab.said if "ramos pkg upgrade" in line]


def test_plain_apt_neither_upgrades_nor_replaces_a_special_package(lab: Lab) -> None:
    add_kernel(lab.mirror, OLD, "6.1.1-1")
    lab.mirror.publish()
    lab.add("linux-image-test")
    add_kernel(lab.mirror, NEW, "6.1.2-1")
    lab.mirror.publish()
    done = lab.apt("update")
    assert done.returncode == 0
    told = (
        "\n  linux-image-test 6.1.2-1\n'apt upgrade' brings them, by way of 'ramos pkg upgrade'.\n"
    )
    assert told in done.stdout, done.stdout
    for words in (["upgrade"], ["dist-upgrade"], ["install", "--reinstall", f"linux-image-{OLD}"]):
        done = lab.apt(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert lab.status("linux-image-test") == "ii  6.1.1-1"
        assert lab.status(f"linux-image-{NEW}") == ""


def test_the_hook_stops_a_stock_special_package(lab: Lab) -> None:
    add_kernel(lab.mirror, OLD, "6.1.1-1")
    add_kernel(lab.mirror, NEW, "6.1.2-1", meta=False)
    fields = {"Package": "stand-in", "Version": "1", "Architecture": "all"}
    lab.mirror.add({**fields, "Provides": "linux-initramfs-tool"}, {})
    lab.mirror.add({"Package": "plain", "Version": "1", "Architecture": "all"}, {"etc/x": b"x"})
    lab.mirror.publish()
    lab.add("linux-image-test")
    assert lab.apt("update").returncode == 0
    done = lab.apt("install", f"linux-image-{NEW}")
    assert done.returncode != 0
    assert f"ramos pkg add linux-image-{NEW}" in done.stderr
    assert lab.status(f"linux-image-{NEW}") == ""
    assert lab.apt("install", "plain").returncode == 0
    assert lab.status("plain") == "ii  1"


def test_a_stock_package_of_the_base_image_leaves_its_modules_alone(lab: Lab) -> None:
    """The build installed the stock package; replacing it must not delete what is in images."""
    root = lab.site.root
    info = root / "var/lib/dpkg/info"
    name = f"linux-image-{OLD}"
    (root / "var/lib/dpkg/status").write_text(
        f"Package: {name}\nStatus: install ok installed\nMaintainer: x <x@x>\n"
        "Architecture: amd64\nVersion: 6.1.0-1\nDescription: x\n"
    )
    module = root / f"usr/lib/modules/{OLD}/kernel/x.ko"
    module.parent.mkdir(parents=True)
    module.write_text("in use")
    listing = f"/.\n/lib\n/lib/modules\n/lib/modules/{OLD}\n/lib/modules/{OLD}/kernel\n"
    (info / f"{name}.list").write_text(f"{listing}/lib/modules/{OLD}/kernel/x.ko\n")
    for script in ("prerm", "postrm"):
        (info / f"{name}.{script}").write_text(FAILING)
        (info / f"{name}.{script}").chmod(0o755)
    add_kernel(lab.mirror, OLD, "6.1.1-1", meta=False)
    lab.mirror.publish()
    report = lab.upgrade()
    assert lab.status(name) == "ii  6.1.1-1"
    assert module.read_text() == "in use"
    assert report.kernels == (f"{OLD}+2",)
    assert sorted(list_complete(lab.esp)) == [OLD, f"{OLD}+2"]
    assert read_env(lab.esp).trial == f"{OLD}+2"


def test_firmware_is_merged_replaced_and_taken_away(lab: Lab, tmp_path: Path) -> None:
    add_firmware(lab.mirror, "1", {"a.bin": b"a1", "dir/b.bin": b"b1"})
    lab.mirror.publish()
    lab.add("firmware-test")
    first = read_default(lab.site.persist)
    assert first is not None
    assert first.parent == 1
    image = next(file.path for file in first.base if file.kind == "firmware")
    assert read_image(lab.site.persist / image, tmp_path) == {
        "usr/lib/firmware/built-in.bin": b"from the build",
        "usr/lib/firmware/a.bin": b"a1",
        "usr/lib/firmware/dir/b.bin": b"b1",
    }
    assert (lab.site.persist / layout.FIRMWARE_IMAGE).exists()
    assert not (lab.site.root / "usr/lib/firmware/a.bin").exists()
    (lab.mirror.folder / "firmware-test_1_all.deb").unlink()
    add_firmware(lab.mirror, "2", {"a.bin": b"a2"})
    lab.mirror.publish()
    lab.upgrade()
    assert _read_firmware(lab, tmp_path) == {
        "usr/lib/firmware/built-in.bin": b"from the build",
        "usr/lib/firmware/a.bin": b"a2",
    }
    with engine.workplace(lab.site):
        engine.remove(lab.site, ["firmware-test"], lab.say)
    assert _read_firmware(lab, tmp_path) == {"usr/lib/firmware/built-in.bin": b"from the build"}
    assert lab.status("firmware-test")[:2] != "ii"


def test_only_what_is_named_is_upgraded(lab: Lab) -> None:
    """No file of either package stays; dpkg must not take one for replaced by the other."""
    for version in ("1", "2"):
        add_firmware(lab.mirror, version, {"a.bin": version.encode()})
        fields = {"Package": "firmware-more", "Version": version, "Architecture": "all"}
        lab.mirror.add(fields, {"lib/firmware/b.bin": version.encode()})
        lab.mirror.publish()
        if version == "1":
            lab.add("firmware-test", "firmware-more")
    assert lab.upgrade("firmware-more").packages == ("firmware-more=2",)
    assert lab.status("firmware-test") == "ii  1"
    before = lab.stick()
    with pytest.raises(UsageError, match="no special package of that name is installed"):
        lab.upgrade("firmware-test", "firmware-other")
    assert lab.stick() == before
    assert [item.name for item in engine.find_newer(lab.site)] == ["firmware-test"]
    assert engine.find_newer(lab.site, ["firmware-more"]) == []


def test_what_needs_a_package_goes_with_it_or_keeps_it(lab: Lab) -> None:
    """A special one goes along, also from the stick; an ordinary one is not ours to remove."""
    add_firmware(lab.mirror, "1", {"a.bin": b"1"})
    needs = {"Version": "1", "Architecture": "all", "Depends": "firmware-test"}
    for name in ("firmware-all", "viewer"):
        lab.mirror.add({"Package": name, **needs}, {})
    lab.mirror.publish()
    lab.add("firmware-all")
    assert lab.apt("install", "viewer").returncode == 0
    before = lab.stick()
    with engine.workplace(lab.site):
        with pytest.raises(UsageError, match="cannot remove: firmware-test: needed by viewer"):
            engine.remove(lab.site, ["firmware-test"], lab.say)
        assert (lab.stick(), lab.status("firmware-test")[:2]) == (before, "ii")
        also = ["viewer", "nothing"]
        report = engine.remove(lab.site, ["firmware-test"], lab.say, also)
    assert report.packages == ("firmware-test", "firmware-all")
    assert "ii" not in {lab.status(name)[:2] for name in (*report.packages, "viewer")}
    assert not list(lab.site.packages.glob("debian/*.deb"))


def _read_firmware(lab: Lab, tmp_path: Path) -> dict[str, bytes]:
    default = read_default(lab.site.persist)
    assert default is not None
    image = next(file.path for file in default.base if file.kind == "firmware")
    return read_image(lab.site.persist / image, tmp_path)


def test_the_last_the_running_and_the_good_kernel_stay(lab: Lab) -> None:
    add_kernel(lab.mirror, OLD, "6.1.1-1")
    add_kernel(lab.mirror, NEW, "6.1.2-1", meta=False)
    lab.mirror.publish()
    lab.add(f"linux-image-{OLD}")
    before = lab.stick()
    with engine.workplace(lab.site), pytest.raises(RamosError, match="cannot remove kernel"):
        engine.remove(lab.site, [f"linux-image-{OLD}"], lab.say)
    assert lab.stick() == before
    assert lab.status(f"linux-image-{OLD}").startswith("ii")
    lab.add(f"linux-image-{NEW}")
    with engine.workplace(lab.site):
        report = engine.remove(lab.site, [f"linux-image-{NEW}"], lab.say)
    assert report.removed_kernels == (NEW,)
    assert not (lab.site.persist / layout.modules_image(NEW)).exists()
    assert lab.status(f"linux-image-{NEW}")[:2] != "ii"


def test_old_kernels_go_only_when_the_new_one_is_confirmed(lab: Lab) -> None:
    for kernel, version in (("6.1.0-2-test", "6.1.2-1"), ("6.1.0-3-test", "6.1.3-1")):
        add_kernel(lab.mirror, kernel, version)
        lab.mirror.publish()
        lab.add("linux-image-test")
        (lab.mirror.folder / f"linux-image-test_{version}_amd64.deb").unlink()
    assert engine.collect_kernels(lab.site, lab.say) == ()
    env = read_env(lab.esp)
    confirmed = grubenv.confirm(env, env.trial, list_complete(lab.esp), 0, 0)
    (lab.esp / "grub/grubenv").write_bytes(grubenv.render(confirmed))
    # the new one is good, the old one still runs: the one between is not needed
    assert engine.collect_kernels(lab.site, lab.say) == ("6.1.0-2-test",)
    assert sorted(list_complete(lab.esp)) == [OLD, "6.1.0-3-test"]


CUTS = (
    "transaction-begun",
    f"publish-after-rename:{layout.modules_image(NEW)}",
    "kernel-directory",
    "kernel-written",
    "kernel-complete",
    "transaction-ready",
)


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_leaves_a_stick_that_boots_and_can_go_on(lab: Lab, cut: str) -> None:
    add_kernel(lab.mirror, NEW, "6.1.2-1", meta=False)
    lab.mirror.publish()
    lab.add_until(cut, f"linux-image-{NEW}")
    env = read_env(lab.esp)
    assert env.good == OLD
    assert kernels.is_whole(lab.esp, OLD)
    assert env.trial in ("", NEW)
    if env.trial:
        assert kernels.is_whole(lab.esp, NEW)
        assert (lab.site.persist / layout.modules_image(NEW)).exists()
    for name in list_complete(lab.esp):
        assert kernels.is_whole(lab.esp, name)
        assert (lab.site.persist / layout.modules_image(name)).exists()
    lab.add(f"linux-image-{NEW}")
    assert read_env(lab.esp).trial == NEW
    assert lab.status(f"linux-image-{NEW}") == "ii  6.1.2-1"
    assert not journal.journal_path(lab.site.persist).exists()
    assert not list(lab.site.persist.glob("*.tmp"))


def test_the_newest_of_two_kernels_is_tried(lab: Lab) -> None:
    """Whichever is built last; the other one is in the menu."""
    older, newer = "6.1.0-9-test", "6.1.0-10-test"
    add_kernel(lab.mirror, older, "6.1.9-1", meta=False)
    add_kernel(lab.mirror, newer, "6.1.10-1")
    lab.mirror.publish()
    report = lab.add("linux-image-test", f"linux-image-{older}")
    assert set(report.kernels) == {older, newer}
    assert report.trial == newer
    assert read_env(lab.esp).trial == newer
    assert sorted(list_complete(lab.esp)) == sorted([OLD, older, newer])
