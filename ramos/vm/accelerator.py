"""Which accelerator a virtual machine gets: the one place that decides.

Owns: trying KVM, and starting again without it. Refuses: trusting /dev/kvm, or a probe alone: a
machine under KVM is watched for as long as it runs. Invariant: with `auto`, whatever works on the
host works, and one line says so where it is software emulation.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from ramos.errors import RamosError
from ramos.sizes import MIB
from ramos.vm import qemu
from ramos.vm.firmware import SECTOR_BYTES
from ramos.vm.machine import LOGIN, PROMPT, Machine, launch, start_machine
from ramos.vm.watch import PATIENCE, MachineFault, Patience, read_complaint

Accel = Literal["auto", "kvm", "tcg"]
ACCELS: tuple[Accel, ...] = ("auto", "kvm", "tcg")
Made = TypeVar("Made")
LOGIN_SECONDS = 300.0
KVM_LOGIN_SECONDS = 120.0
# A stick that is locked asks for its passphrase before anything else.
ENTRY = rf"{LOGIN}|assphrase"
# A boot sector that ends QEMU through its debug port: out 0xf4, 0x10, then hlt for ever.
PROBE_CODE = bytes.fromhex("baf400b010eef4ebfd")
PROBE_STATUS = 0x10 << 1 | 1
PROBE_EXIT = ("-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04")


def run_machine(
    plan: qemu.VmPlan,
    accel: Accel,
    work: Callable[[bool], Made],
    say: Callable[[str], None],
    patience: Patience = PATIENCE,
) -> Made:
    """Do work with a machine: it is given whether to use KVM, and given it again if that fails."""
    if accel != "auto":
        return work(accel == "kvm")
    fault = find_kvm_fault(plan, patience)
    if fault:
        say(f"KVM cannot be used ({fault}): this is software emulation, which is slower.")
        return work(False)
    try:
        return work(True)
    except MachineFault as error:
        say(f"KVM failed ({error.reason}): starting again under software emulation.")
    return work(False)


def choose_kvm(plan: qemu.VmPlan, accel: Accel, say: Callable[[str], None]) -> bool:
    """For machines that are started many times: one boot to its login decides for all of them."""

    def try_boot(kvm: bool) -> bool:
        if kvm and accel == "auto":
            with start_machine(plan, snapshot=True, kvm=True) as machine:
                await_login(machine, kvm=True)
        return kvm

    return run_machine(plan, accel, try_boot, say)


def await_login(machine: Machine, *, kvm: bool) -> None:
    """Wait for the login prompt, or for the shell of an image that logs its user in by itself.

    Under KVM, not to get there is a fault of the machine's.
    """
    seconds = KVM_LOGIN_SECONDS if kvm else LOGIN_SECONDS
    try:
        if machine.expect(ENTRY, seconds)[0] != "assphrase" and machine.is_answered():
            machine.expect(PROMPT, seconds)
    except RamosError as error:
        if not kvm:
            raise
        raise MachineFault("no login", machine.plan.image, error.reason, error.state) from error


def find_kvm_fault(plan: qemu.VmPlan, patience: Patience) -> str:
    """Why KVM does not run a tiny guest behind the plan's firmware; empty where it does."""
    with tempfile.TemporaryDirectory(prefix="ramos-vm-") as name:
        sector = Path(name) / "probe.img"
        write_probe(sector)
        firmware: qemu.Firmware = "uefi" if plan.firmware == "uefi" else "bios"
        probe = replace(plan, image=sector, image_format="raw", firmware=firmware, bus="virtio")
        probe = replace(probe, share=None, network=False, vnc="", kernel=None, extra=PROBE_EXIT)
        try:
            return _run_probe(probe, patience)
        except MachineFault as fault:
            return fault.reason


def write_probe(image: Path) -> None:
    """The disk of the tiny guest; a BIOS boots nothing from a disk of one sector."""
    sector = PROBE_CODE.ljust(SECTOR_BYTES - 2, b"\0") + b"\x55\xaa"
    image.write_bytes(sector.ljust(MIB, b"\0"))


def _run_probe(probe: qemu.VmPlan, patience: Patience) -> str:
    """UEFI has to show a sign of life, BIOS has to load and run what is on the disk."""
    deadline = time.monotonic() + patience.start_seconds
    with launch(probe, "none", snapshot=False, kvm=True, patience=patience) as running:
        while running.process.poll() is None and time.monotonic() < deadline:
            if probe.firmware == "uefi" and running.watch.alive:
                return ""
            time.sleep(0.02)
        if running.process.poll() == PROBE_STATUS:
            return ""
        running.watch.check()
        if running.process.poll() is None:
            return f"a tiny guest does not run within {patience.start_seconds:.0f} s"
        return read_complaint(running.scratch) or "QEMU ended"
