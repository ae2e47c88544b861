"""Whether KVM is to be used: as it is asked for, and as far as it works."""

import os
from pathlib import Path

import pytest

from ramos.vm.accelerator import choose_kvm, find_kvm_fault
from ramos.vm.qemu import VmPlan
from ramos.vm.watch import PATIENCE


def test_who_asks_for_emulation_gets_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_kvm(VmPlan(Path("no-such.img")), "tcg", print) is False
    assert capsys.readouterr().out == ""


def test_a_crash_without_a_word_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = tmp_path / "qemu-system-x86_64"
    qemu.write_text("#!/bin/sh\nkill -ABRT $$\n")
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    plan = VmPlan(Path("no-such.img"), firmware="bios")
    assert find_kvm_fault(plan, PATIENCE) == "QEMU crashed (signal 6)"
