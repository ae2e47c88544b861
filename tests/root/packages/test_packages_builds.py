"""Two builds of one kernel version: a security update, and another initramfs for microcode.

The kernel that is known to boot keeps its files, its modules among them, whenever the power goes.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import kernels
from ramos.boot.esp import read_env
from ramos.boot.grubenv import confirm, render
from ramos.boot.kernels import list_complete
from ramos.packages import engine, journal
from ramos.store.generations import read_all
from ramos.store.images import find_modules
from tests.labs.packagelab import (
    BUILTIN,
    OLD,
    Lab,
    add_kernel,
    add_microcode,
    make_lab,
    read_image,
)

SECOND, THIRD = f"{OLD}+2", f"{OLD}+3"
MODULES = f"lib/modules/{OLD}"


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None, monkeypatch: pytest.MonkeyPatch) -> Lab:
    del private_mounts
    return make_lab(tmp_path, monkeypatch)


def add_build(lab: Lab, version: str, content: bytes) -> None:
    """The next build of the kernel that runs."""
    for old in lab.mirror.folder.glob("*.deb"):
        old.unlink()
    add_kernel(lab.mirror, OLD, version, meta=False, ballast=content)
    lab.mirror.publish()


def read_ballast(lab: Lab, name: str, tmp_path: Path) -> bytes:
    """What tells the modules of one build from those of another."""
    files = read_image(find_modules(lab.site.persist, name), tmp_path)
    return files[f"usr/{MODULES}/ballast"]


def read_kept(lab: Lab) -> list[bytes]:
    """Everything that the kernel of the image boots with."""
    folder = lab.esp / "kernels" / OLD
    files = [folder / "vmlinuz", folder / "initramfs", folder / "sha256", folder / "complete"]
    files.append(lab.site.persist / layout.modules_image(OLD))
    return [path.read_bytes() for path in files]


def confirm_trial(lab: Lab) -> None:
    env = read_env(lab.esp)
    sector = render(confirm(env, env.trial, list_complete(lab.esp), 0, 0))
    (lab.esp / "grub/grubenv").write_bytes(sector)


def test_each_build_keeps_its_own_modules(lab: Lab, tmp_path: Path) -> None:
    kept = read_kept(lab)
    add_build(lab, "6.1.1-1", b"first")
    lab.add(f"linux-image-{OLD}")
    assert read_env(lab.esp).trial == SECOND
    add_build(lab, "6.1.1-2", b"second")
    report = lab.upgrade()
    assert report.kernels == (THIRD,)
    assert read_kept(lab) == kept
    assert read_ballast(lab, SECOND, tmp_path) == b"first"
    assert read_ballast(lab, THIRD, tmp_path) == b"second"
    env = read_env(lab.esp)
    assert (env.good, env.trial) == (OLD, THIRD)
    for generation in read_all(lab.site.persist)[0]:
        for file in generation.base:
            image = lab.site.persist / file.path
            assert not image.exists() or image.stat().st_size == file.size_bytes
    confirm_trial(lab)
    assert engine.collect_kernels(lab.site, lab.say) == (SECOND,)
    assert not (lab.site.persist / layout.modules_image(SECOND)).exists()
    assert read_kept(lab) == kept
    assert read_ballast(lab, THIRD, tmp_path / "again") == b"second"


CUTS = (
    "transaction-begun",
    f"publish-before-rename:{layout.modules_image(SECOND)}",
    f"publish-after-rename:{layout.modules_image(SECOND)}",
    "kernel-directory",
    "kernel-written",
    "kernel-complete",
    "transaction-ready",
    "transaction-trial",
)


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_leaves_the_old_build_whole(lab: Lab, tmp_path: Path, cut: str) -> None:
    kept = read_kept(lab)
    add_build(lab, "6.1.1-1", b"first")
    lab.add_until(cut, f"linux-image-{OLD}")
    assert read_kept(lab) == kept
    env = read_env(lab.esp)
    assert env.good == OLD
    if env.trial:
        assert kernels.is_whole(lab.esp, SECOND)
        assert read_ballast(lab, SECOND, tmp_path) == b"first"
    lab.add(f"linux-image-{OLD}")
    assert read_kept(lab) == kept
    assert read_env(lab.esp).trial == SECOND
    assert sorted(list_complete(lab.esp)) == [OLD, SECOND]
    assert read_ballast(lab, SECOND, tmp_path / "again") == b"first"
    assert not journal.journal_path(lab.site.persist).exists()
    assert not list(lab.site.persist.glob("*.tmp"))


def test_the_same_build_is_not_written_twice(lab: Lab) -> None:
    add_build(lab, "6.1.1-1", b"first")
    lab.add(f"linux-image-{OLD}")
    before = lab.stick()
    # The list of installed packages was in RAM, and nobody saved it.
    shutil.copyfile("/dev/null", lab.site.root / "var/lib/dpkg/status")
    lab.add(f"linux-image-{OLD}")
    assert list_complete(lab.esp) == [OLD, SECOND]
    after = lab.stick()
    assert {path: after[path] for path in before} == before


def test_a_build_that_is_removed_is_no_trial_any_more(lab: Lab) -> None:
    other = "6.1.0-9-test"
    add_kernel(lab.mirror, other, "6.1.9-1", meta=False)
    lab.mirror.publish()
    lab.add(f"linux-image-{other}")
    assert read_env(lab.esp).trial == other
    with engine.workplace(lab.site):
        engine.remove(lab.site, [f"linux-image-{other}"], lab.say)
    env = read_env(lab.esp)
    assert (env.good, env.trial, env.tries) == (OLD, "", 0)


def test_microcode_stands_at_the_front_of_another_initramfs(lab: Lab, tmp_path: Path) -> None:
    kept = read_kept(lab)
    folder = lab.site.root / "usr" / MODULES
    folder.mkdir(parents=True)
    for name, text in (("builtin", BUILTIN), ("dep", ""), ("alias", ""), ("softdep", "")):
        (folder / f"modules.{name}").write_text(text)
    add_microcode(lab.mirror, b"new microcode")
    lab.mirror.publish()
    report = lab.add("amd64-microcode")
    assert report.kernels == (SECOND,)
    assert lab.status("amd64-microcode") == "ii  3.1"
    assert read_kept(lab) == kept
    initramfs = lab.esp / "kernels" / SECOND / "initramfs"
    early = tmp_path / "early"
    early.mkdir()
    with initramfs.open("rb") as file:
        # cpio stops at the end of the first archive, as the kernel's microcode loader does.
        done = subprocess.run(["cpio", "-i", "-d"], stdin=file, cwd=early, capture_output=True)
    assert done.returncode == 0, done.stderr
    found = {str(path.relative_to(early)): path for path in early.rglob("*") if path.is_file()}
    assert list(found) == ["kernel/x86/microcode/AuthenticAMD.bin"]
    assert found["kernel/x86/microcode/AuthenticAMD.bin"].read_bytes() == b"new microcode"
    old, new = (lab.site.persist / layout.modules_image(name) for name in (OLD, SECOND))
    assert old.samefile(new), "the same modules take no room twice"
    assert not list(lab.site.root.glob("usr/lib/firmware/amd-ucode/*"))
    confirm_trial(lab)
    add_kernel(lab.mirror, "6.1.0-2-test", "6.1.2-1", meta=False)
    lab.mirror.publish()
    lab.add("linux-image-6.1.0-2-test")
    front = (lab.esp / "kernels/6.1.0-2-test/initramfs").read_bytes()[:4096]
    assert b"new microcode" in front
