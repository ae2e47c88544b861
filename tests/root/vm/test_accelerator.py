"""A virtual machine reaches its login where KVM is broken, and one line says how.

QEMU is a stand-in here (`tests/labs/qemu_standin.py`): one whose KVM fails in a way of its own.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ramos.vm import accelerator
from ramos.vm.qemu import VmPlan
from tests.conftest import REPOSITORY

# The command, with less patience than a person has.
RUN = """
import sys
from pathlib import Path
from ramos.cli.vm import run_in_terminal
from ramos.vm.qemu import VmPlan
from ramos.vm.watch import Patience
image, firmware, accel = sys.argv[1:]
plan = VmPlan(Path(image), firmware=firmware)
run_in_terminal(plan, False, accel, Patience(1.5, 1.5))
"""
FAULTS = {
    "msr": "failed to set MSR 0x10a to 0x69",
    "internal-error": "KVM internal error. Suberror: 1",
    "hang": "it shows nothing 2 s after its start",
    "mute": "QEMU does not answer: it took too long",
    "loading": "it shows nothing 2 s after its kernel was loaded",
}


@dataclass
class Host:
    """A host with a broken KVM."""

    top: Path
    environment: dict[str, str]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Python, with the stand-in as its QEMU and nothing to read from."""
        return subprocess.run(
            [sys.executable, *words],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def boot(self, firmware: str, accel: str) -> subprocess.CompletedProcess[str]:
        return self.run("-c", RUN, str(self.top / "stick.img"), firmware, accel)

    @property
    def starts(self) -> str:
        return (self.top / "starts").read_text().strip()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qemu-system-x86_64").symlink_to(REPOSITORY / "tests/labs/qemu_standin.py")
    (tmp_path / "stick.img").write_bytes(bytes(512))
    path = f"{programs}:{os.environ['PATH']}"
    return Host(tmp_path, {"PATH": path, "QEMU_STARTS": str(tmp_path / "starts")})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_machine_that_breaks_down_is_started_again(host: Host, fault: str) -> None:
    host.environment |= {"QEMU_FAULT": fault, "QEMU_PROBE": "passes"}
    done = host.boot("bios", "auto")
    assert done.returncode == 0, done.stderr
    assert host.starts == "probe kvm tcg"
    assert done.stdout.endswith("ramos login: ")
    lines = [line for line in done.stdout.splitlines() if "KVM failed" in line]
    assert lines == [f"KVM failed ({FAULTS[fault]}): starting again under software emulation."]
    assert done.stderr == "", "QEMU's own words are not shown"


@pytest.mark.parametrize("firmware", ["uefi", "bios"])
@pytest.mark.parametrize("fault", ["msr", "internal-error", "hang"])
def test_a_kvm_that_cannot_run_the_firmware_is_not_used(
    host: Host, fault: str, firmware: str
) -> None:
    host.environment |= {"QEMU_FAULT": fault}
    done = host.boot(firmware, "auto")
    assert done.returncode == 0, done.stderr
    # What shows something before it breaks down may pass for firmware that works.
    assert host.starts in {"probe tcg", "probe kvm tcg"}
    assert done.stdout.endswith("ramos login: ")
    assert len([line for line in done.stdout.splitlines() if line.startswith("KVM ")]) == 1
    assert done.stderr == ""


def test_a_kvm_that_works_is_used(host: Host) -> None:
    host.environment |= {"QEMU_FAULT": "none"}
    done = host.boot("uefi", "auto")
    assert done.stdout.endswith("ramos login: ")
    assert host.starts == "probe kvm"


def test_nobody_is_asked_when_told(host: Host) -> None:
    host.environment |= {"QEMU_FAULT": "msr"}
    assert host.boot("bios", "tcg").stdout.endswith("ramos login: ")
    assert host.starts == "tcg"
    done = host.run("-m", "ramos", "vm", "run", "--accel", "kvm", str(host.top / "stick.img"))
    assert done.returncode == 1
    assert host.starts == "tcg kvm"
    assert "broke down: QEMU: failed to set MSR" in done.stderr
    assert "--accel tcg" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_screenshot_is_taken_all_the_same(host: Host) -> None:
    host.environment |= {"QEMU_FAULT": "internal-error", "QEMU_PROBE": "passes"}
    words = ("--bios", "--screenshot", str(host.top / "screen.png"), str(host.top / "stick.img"))
    done = host.run("-m", "ramos", "vm", "run", *words)
    assert done.returncode == 0, done.stderr
    assert host.starts == "probe kvm tcg"
    assert (host.top / "screen.png").read_bytes() == b"PNG"


@pytest.mark.parametrize(("fault", "kvm"), [("none", True), ("internal-error", False)])
def test_one_boot_decides_for_many(
    host: Host, fault: str, kvm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.environment |= {"QEMU_FAULT": fault, "QEMU_PROBE": "passes"}
    for name, value in host.environment.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    plan = VmPlan(host.top / "stick.img", firmware="bios")
    assert accelerator.choose_kvm(plan, "auto", said.append) is kvm
    assert len(said) == (0 if kvm else 1)
