"""What the package engine refuses, and that everything is then as it was: stick, dpkg, RAM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.linux.fs import hash_file
from ramos.packages import engine
from tests.labs.debmirror import Mirror
from tests.labs.packagelab import BUILTIN, NEW, OLD, Lab, add_kernel, add_microcode, make_lab

UNCHANGED = ("Nothing was changed", "Nothing of it was used", "The stick is as it was")
KERNEL = f"linux-image-{NEW}"
FILE = f"{KERNEL}_6.1.2-1_amd64.deb"


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None, monkeypatch: pytest.MonkeyPatch) -> Lab:
    del private_mounts
    return make_lab(tmp_path, monkeypatch)


def refuse(lab: Lab, *names: str) -> RamosError:
    """An attempt that must fail and leave everything as it was."""
    before = lab.stick()
    installed = (lab.site.root / "var/lib/dpkg/status").read_bytes()
    with pytest.raises(RamosError) as caught:
        lab.add(*names)
    assert lab.stick() == before
    assert (lab.site.root / "var/lib/dpkg/status").read_bytes() == installed
    assert not lab.site.work.exists()
    assert caught.value.state in UNCHANGED, caught.value
    return caught.value


def shrink(folder: Path, size_mib: int) -> None:
    """Put a directory onto a file system of its own."""
    image, target = folder.with_suffix(".img"), folder.with_suffix(".mnt")
    with image.open("wb") as file:
        file.truncate(size_mib << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    target.mkdir()
    subprocess.run(["mount", "-o", "loop", image, target], check=True)
    subprocess.run(["cp", "-a", f"{folder}/.", target], check=True)
    subprocess.run(["mount", "--move", target, folder], check=True)


@pytest.fixture
def kernel(lab: Lab) -> Path:
    """A good kernel package on the mirror."""
    add_kernel(lab.mirror, NEW, "6.1.2-1", meta=False)
    lab.mirror.publish()
    return lab.mirror.folder / FILE


def test_wrong_key(lab: Lab, kernel: Path, tmp_path: Path) -> None:
    assert kernel.exists()
    lab.mirror.publish(Mirror(tmp_path / "other").key)
    error = refuse(lab, KERNEL)
    assert error.what == "cannot refresh"
    assert "NO_PUBKEY" in error.reason or "not signed" in error.reason, error.reason


def test_unsigned(lab: Lab, kernel: Path) -> None:
    assert kernel.exists()
    (lab.mirror.folder / "Release.gpg").unlink()
    assert "not signed" in refuse(lab, KERNEL).reason


def test_index_that_is_not_the_signed_one(lab: Lab, kernel: Path) -> None:
    index = lab.mirror.folder / "Packages"
    index.write_bytes(index.read_bytes().replace(hash_file(kernel).encode(), b"0" * 64))
    assert "Hash Sum mismatch" in refuse(lab, KERNEL).reason


def test_swapped_package_of_the_same_size(lab: Lab, kernel: Path) -> None:
    data = bytearray(kernel.read_bytes())
    data[len(data) // 2] ^= 1
    kernel.write_bytes(data)
    error = refuse(lab, KERNEL)
    assert KERNEL in str(error)
    assert "Hash Sum mismatch" in error.reason


def test_truncated_package(lab: Lab, kernel: Path) -> None:
    kernel.write_bytes(kernel.read_bytes()[:-100])
    assert "Hash Sum mismatch" in refuse(lab, KERNEL).reason


def test_package_that_is_gone_half_way(lab: Lab, kernel: Path) -> None:
    kernel.unlink()
    error = refuse(lab, KERNEL)
    assert "File not found" in error.reason
    assert "Try again" in error.hint


def test_package_for_another_architecture(lab: Lab) -> None:
    lab.mirror.add(
        {"Package": KERNEL, "Version": "6.1.2-1", "Architecture": "arm64"},
        {f"boot/vmlinuz-{NEW}": b"arm"},
    )
    lab.mirror.publish()
    assert refuse(lab, KERNEL).reason == "no mirror has it"
    lab.mirror.publish(told={"Architecture": "amd64"})
    assert "it is for arm64, this system is amd64" in refuse(lab, KERNEL).reason


def test_package_that_is_another_one_than_the_index_says(lab: Lab, kernel: Path) -> None:
    assert kernel.exists()
    lab.mirror.publish(told={"Version": "6.1.3-1"})
    assert "its version should be 6.1.3-1" in refuse(lab, KERNEL).reason


def test_downgrade(lab: Lab, kernel: Path) -> None:
    lab.add(KERNEL)
    kernel.unlink()
    add_kernel(lab.mirror, NEW, "6.1.1-1", meta=False)
    lab.mirror.publish()
    assert lab.upgrade().packages == ()
    assert lab.add(KERNEL).packages == ()
    error = refuse(lab, f"{KERNEL}=6.1.1-1")
    assert (error.what, error.obj) == ("cannot downgrade", KERNEL)
    assert error.reason == "6.1.2-1 is installed, and 6.1.1-1 is older"


def test_ordinary_and_unknown_packages(lab: Lab) -> None:
    lab.mirror.add({"Package": "plain", "Version": "1", "Architecture": "all"}, {"etc/x": b"x"})
    lab.mirror.publish()
    assert "it is an ordinary package" in refuse(lab, "plain").reason
    assert refuse(lab, "linux-image-none").reason == "no mirror has it"


def test_kernel_without_modules_and_modules_without_kernel(lab: Lab) -> None:
    fields = {"Package": KERNEL, "Version": "1", "Architecture": "amd64"}
    lab.mirror.add(fields, {f"boot/vmlinuz-{NEW}": b"kernel"})
    lab.mirror.publish()
    assert refuse(lab, KERNEL).reason == "it brings a vmlinuz, but no modules"
    lab.mirror.add({**fields, "Version": "2"}, {f"lib/modules/{NEW}/modules.order": b""})
    lab.mirror.publish()
    assert refuse(lab, KERNEL).reason == "it brings modules, but no vmlinuz"


def test_dependency_that_nobody_has(lab: Lab) -> None:
    lab.mirror.add(
        {
            "Package": KERNEL,
            "Version": "6.1.2-1",
            "Architecture": "amd64",
            "Depends": "wireless-magic (>= 2)",
        },
        {
            f"boot/vmlinuz-{NEW}": b"kernel",
            f"lib/modules/{NEW}/modules.builtin": BUILTIN.encode(),
        },
    )
    lab.mirror.publish()
    error = refuse(lab, KERNEL)
    assert (error.what, error.obj) == ("cannot install", KERNEL)
    assert "Unable to correct problems" in error.reason
    assert not list((lab.site.packages / "debian").glob("*.deb"))


def test_own_recipe_that_is_wrong(lab: Lab, kernel: Path) -> None:
    assert kernel.exists()
    lab.site.recipes_dir.mkdir()
    (lab.site.recipes_dir / "mine.toml").write_text('base = "debian"\nmatch = "x"\n')
    before = lab.stick()
    with pytest.raises(RamosError, match=r"mine\.toml"):
        lab.add(KERNEL)
    assert lab.stick() == before


def test_esp_full(lab: Lab, kernel: Path) -> None:
    assert kernel.exists()
    shrink(lab.esp, 24)
    (lab.esp / "filler").write_bytes(bytes(18 << 20))
    error = refuse(lab, KERNEL)
    assert (error.what, error.obj) == ("not enough space on the ESP", NEW)
    assert "MiB are free" in error.reason
    assert "ramos pkg remove" in error.hint


def test_persist_full(lab: Lab) -> None:
    add_kernel(lab.mirror, NEW, "6.1.2-1", meta=False, ballast=os.urandom(8 << 20))
    lab.mirror.publish()
    shrink(lab.site.persist, 84)
    error = refuse(lab, KERNEL)
    assert error.what == "not enough space on persist"
    assert "about 16." in error.reason
    assert "ramos prune" in error.hint


def test_too_little_memory(lab: Lab, kernel: Path) -> None:
    assert kernel.exists()
    lab.mirror.publish(told={"Installed-Size": str(1 << 30)})
    error = refuse(lab, KERNEL)
    assert error.what == "not enough memory"
    assert error.reason.startswith("1.0 TiB are needed to unpack")
    assert "start the stick on a larger one" in error.hint


def test_no_route() -> None:
    """In a network of its own, without any interface."""
    code = "from ramos.packages.running import require_route; require_route()"
    argv = ["unshare", "--net", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this system is offline (it has no default route)" in done.stderr


def test_nothing_is_left_of_a_refused_microcode(lab: Lab) -> None:
    """The running kernel gets another initramfs for it, and is not on the ESP any more."""
    add_microcode(lab.mirror, b"microcode")
    lab.mirror.publish()
    (lab.esp / "kernels" / OLD / "complete").unlink()
    error = refuse(lab, "amd64-microcode")
    assert (error.what, error.obj) == ("cannot rebuild kernel", OLD)
    assert error.reason == "it is not on the ESP"


def test_last_kernel(lab: Lab) -> None:
    add_kernel(lab.mirror, OLD, "6.1.1-1", meta=False)
    lab.mirror.publish()
    lab.add(f"linux-image-{OLD}")
    before = lab.stick()
    with engine.workplace(lab.site), pytest.raises(RamosError) as caught:
        engine.remove(lab.site, [f"linux-image-{OLD}"], lab.say)
    assert "it is the last kernel on this stick" in caught.value.reason
    assert lab.stick() == before
    assert lab.status(f"linux-image-{OLD}").startswith("ii")


@pytest.mark.parametrize("word", [f"{KERNEL}=99", f"{KERNEL}-other=1"])
def test_a_version_that_no_mirror_has(lab: Lab, kernel: Path, word: str) -> None:
    assert kernel.exists()
    error = refuse(lab, word)
    assert (error.what, error.obj) == ("no such package", word)
