"""Whether KVM is to be used, where nothing has to be tried."""

from pathlib import Path

import pytest

from ramos.vm.accelerator import choose_kvm
from ramos.vm.qemu import VmPlan


def test_who_asks_for_emulation_gets_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_kvm(VmPlan(Path("no-such.img")), "tcg", print) is False
    assert capsys.readouterr().out == ""
