"""`ramos vm`: boot an image in a virtual machine, in this terminal."""

import sys
from pathlib import Path

import click

from ramos.booted import Mode
from ramos.cli import show_line
from ramos.errors import RefusedError, UsageError
from ramos.linux import run, terminals
from ramos.vm import accelerator, qemu
from ramos.vm.machine import launch, start_machine
from ramos.vm.watch import PATIENCE, Patience, read_complaint

EXAMPLES = """\b
Examples:
  ramos vm run stick.img                 boot it by UEFI from a USB stick
  ramos vm run stick.img --mode clean    with the third entry of the menu
  ramos vm run stick.img --bios --snapshot
  ramos vm run stick.img --direct --share ~/src
  ramos vm run stick.img --accel tcg     by software emulation, without a try of KVM
"""


@click.group("vm")
def vm_group() -> None:
    """Boot an image in a virtual machine."""


@vm_group.command("run", epilog=EXAMPLES)
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--mode", type=click.Choice([*map(str, Mode)]), default="default", help="Boot mode.")
@click.option("--uefi", "firmware", flag_value="uefi", default="uefi", help="Firmware: UEFI.")
@click.option("--bios", "firmware", flag_value="bios", help="Firmware: BIOS.")
@click.option("--direct", "firmware", flag_value="direct", help="No firmware: kernel + initramfs.")
@click.option(
    "--bus", type=click.Choice(["usb", "virtio"]), default="usb", help="How the image is attached."
)
@click.option("--share", type=click.Path(path_type=Path), metavar="DIR", help="A folder over 9p.")
@click.option(
    "--accel",
    type=click.Choice(accelerator.ACCELS),
    default="auto",
    show_default=True,
    help="KVM, software emulation (tcg), or KVM as long as it works (auto).",
)
@click.option("--snapshot", is_flag=True, help="Throw away what the machine writes.")
@click.option("--memory", type=click.IntRange(256), default=2048, metavar="MIB", help="Its RAM.")
@click.option("--cpus", type=click.IntRange(1, 64), default=2, help="Its processors.")
@click.option("--append", default="", metavar="WORDS", help="More kernel parameters (--direct).")
@click.option("--vnc", default="", metavar="ADDRESS", help="Show the screen by VNC, such as :1.")
@click.option(
    "--screenshot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Wait for the login, save the screen as a PNG, and end.",
)
def run_command(
    image: Path,
    mode: str,
    memory: int,
    append: str,
    screenshot: Path | None,
    snapshot: bool,
    accel: accelerator.Accel,
    **options: object,
) -> None:
    """Boot IMAGE in QEMU: as a USB stick by UEFI, its serial console in this terminal.

    KVM is used where it really runs a guest. Where it does not, or stops doing so, the machine
    is started again under software emulation. What it writes goes to the image, unless
    --snapshot is given.
    """
    plan = qemu.VmPlan(
        image,
        mode=Mode(mode),
        memory_mib=memory,
        parameters=tuple(append.split()),
        network=True,
        **options,  # type: ignore[arg-type]
    )
    check_request(plan, screenshot)
    if screenshot is None:
        run_in_terminal(plan, snapshot, accel)
    else:
        run_for_screenshot(plan, screenshot, accel)


def check_request(plan: qemu.VmPlan, screenshot: Path | None) -> None:
    """Say what is missing before anything starts."""
    missing = run.find_missing(["qemu-system-x86_64", "qemu-img", "setpriv", "mcopy"])
    if missing:
        hint = "Install qemu-system-x86, qemu-utils, util-linux and mtools."
        reason = "this machine does not have it"
        raise RefusedError("cannot run a virtual machine", missing[0], reason, hint=hint)
    if not plan.image.is_file():
        hint = "Make one with: ramos image build --output stick.img"
        raise RefusedError("cannot boot", plan.image, "there is no such image file", hint=hint)
    if plan.share is not None and not plan.share.is_dir():
        raise RefusedError("cannot share", plan.share, "it is not a folder")
    if plan.parameters and plan.firmware != "direct":
        reason = "GRUB gives the parameters; more can only be given to a direct boot"
        raise UsageError("cannot add", "--append", reason, hint="Add --direct.")
    if screenshot is not None and not screenshot.absolute().parent.is_dir():
        raise RefusedError("cannot save", screenshot, "there is no such folder")


def run_in_terminal(
    plan: qemu.VmPlan,
    snapshot: bool,
    accel: accelerator.Accel = "auto",
    patience: Patience = PATIENCE,
) -> None:
    """Hand this terminal to the machine until it ends."""

    def work(kvm: bool) -> None:
        how = "KVM" if kvm else "software emulation"
        show_line(f"Booting with {how}. Ctrl-A X ends the machine, Ctrl-A C is QEMU's monitor.")
        if plan.share is not None:
            show_line(f"In the guest: mount -t 9p -o trans=virtio {qemu.SHARE_TAG} /mnt")
        machine = launch(plan, "terminal", snapshot=snapshot, kvm=kvm, patience=patience)
        with terminals.kept(sys.stdin.fileno()), machine as running:
            code = running.process.wait()
            running.watch.close()
            running.watch.check()
            complaint = read_complaint(running.scratch)
        if code != 0:
            reason = complaint or f"exit status {code}"
            raise RefusedError("the virtual machine failed", "QEMU", reason)

    accelerator.run_machine(plan, accel, work, show_line, patience)


def run_for_screenshot(plan: qemu.VmPlan, screenshot: Path, accel: accelerator.Accel) -> None:
    """Boot without a trace on the image, and save what the screen shows at the login."""

    def work(kvm: bool) -> None:
        with start_machine(plan, snapshot=True, kvm=kvm) as machine:
            accelerator.await_login(machine, kvm=kvm)
            machine.take_screenshot(screenshot)

    accelerator.run_machine(plan, accel, work, show_line)
    show_line(f"Saved {screenshot}.")
