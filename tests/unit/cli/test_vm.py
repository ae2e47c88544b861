"""`ramos vm run`: what it refuses before anything starts, and what its script names."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ramos.cli import vm
from ramos.errors import RamosError
from ramos.linux import run
from ramos.vm import firmware, machine
from ramos.vm.firmware import DirectKernel
from ramos.vm.qemu import VmPlan


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "find_missing", lambda _names: [])
    pair = (tmp_path / "CODE.fd", tmp_path / "VARS.fd")
    for name in (*pair, tmp_path / "vmlinuz", tmp_path / "initrd", tmp_path / "a.img"):
        name.write_text(name.name)
    monkeypatch.setattr(firmware, "OVMF_PAIRS", [tuple(map(str, pair))])
    return tmp_path


def ask(*words: str) -> Result:
    return CliRunner().invoke(vm.run_command, words)


REFUSED = {
    "port": (("--serial", "tcp:0"), "it takes pty, or tcp: and a port"),
    "line": (("--serial", "usb"), "it takes pty, or tcp: and a port"),
    "kernel": (("--kernel", "nowhere"), "there is no such file"),
    "log": (("--log", "nowhere/x"), "there is no such folder"),
    "nvram": (("--nvram", "nowhere/x"), "there is no such folder"),
    "direct": (("--direct", "--print"), "kernel and initramfs lie in the image"),
    "half": (("--kernel", "vmlinuz", "--print"), "kernel and initramfs lie in the image"),
    "window": (("--window",), "there is no desktop here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_anything_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    words, reason = REFUSED[case]
    error = ask("a.img", *words).exception
    assert isinstance(error, RamosError)
    assert reason in str(error)
    assert sorted(os.listdir(folder)) == ["CODE.fd", "VARS.fd", "a.img", "initrd", "vmlinuz"]


def test_a_folder_without_an_image(folder: Path) -> None:
    (folder / "a.img").unlink()
    error = ask().exception
    assert isinstance(error, RamosError)
    assert "there is no image (*.img) in it" in str(error)


@pytest.mark.parametrize(
    ("accel", "words"), [("auto", "-accel kvm -accel tcg"), ("kvm", "-accel kvm -cpu")]
)
def test_the_script_names_the_firmware_and_throws_its_variables_away(
    folder: Path, accel: str, words: str
) -> None:
    said = ask("a.img", "--print", "--accel", accel).stdout
    assert words in said
    assert f"unit=0,readonly=on,file={folder}/CODE.fd" in said
    assert f"unit=1,file={folder}/VARS.fd,snapshot=on" in said
    assert f"format=raw,file={folder}/a.img" in said


def test_variables_that_are_kept(folder: Path) -> None:
    said = ask("a.img", "--print", "--nvram", "mine.fd").stdout
    assert "unit=1,file=mine.fd\n" not in said
    assert f"unit=1,file={folder}/mine.fd \\" in said
    assert (folder / "mine.fd").read_text() == "VARS.fd"
    (folder / "mine.fd").write_text("used")
    plan = VmPlan(folder / "a.img", nvram=folder / "mine.fd")
    host = machine.describe_host(plan, folder)
    assert (host.firmware_variables, host.drops_variables) == (folder / "mine.fd", False)
    assert (folder / "mine.fd").read_text() == "used"


def test_a_kernel_of_ones_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = DirectKernel("6.1", Path("/i/vmlinuz"), Path("/i/initramfs"), "ramos.persist=UUID=1")
    monkeypatch.setattr(firmware, "read_direct_kernel", lambda *_: found)
    said = ask("a.img", "--print", "--kernel", "vmlinuz", "--initramfs", "initrd").stdout
    assert f"-kernel {folder}/vmlinuz -initrd {folder}/initrd" in said
    assert "ramos.persist=UUID=1" in said
    kernel = machine.find_kernel(VmPlan(folder / "a.img", vmlinuz=folder / "vmlinuz"), folder)
    assert (kernel.vmlinuz, kernel.initramfs) == (folder / "vmlinuz", found.initramfs)
