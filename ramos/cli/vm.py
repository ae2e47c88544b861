"""`ramos vm`: boot an image in a virtual machine, in this terminal."""

import sys
import tempfile
from pathlib import Path

import click

from ramos import run, vm, vm_boot, vm_machine
from ramos.cli import show_line
from ramos.errors import RamosError, UsageError

LOGIN_SECONDS = 300.0
EXAMPLES = """\b
Examples:
  ramos vm run stick.img                 boot it by UEFI from a USB stick
  ramos vm run stick.img --mode clean    with the third entry of the menu
  ramos vm run stick.img --bios --snapshot
  ramos vm run stick.img --direct --share ~/src
"""


@click.group("vm")
def vm_group() -> None:
    """Boot an image in a virtual machine."""


@vm_group.command("run", epilog=EXAMPLES)
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--mode", type=click.Choice(vm.MODES), default="default", help="Boot mode.")
@click.option("--uefi", "firmware", flag_value="uefi", default="uefi", help="Firmware: UEFI.")
@click.option("--bios", "firmware", flag_value="bios", help="Firmware: BIOS.")
@click.option("--direct", "firmware", flag_value="direct", help="No firmware: kernel + initramfs.")
@click.option(
    "--bus", type=click.Choice(["usb", "virtio"]), default="usb", help="How the image is attached."
)
@click.option("--share", type=click.Path(path_type=Path), metavar="DIR", help="A folder over 9p.")
@click.option("--snapshot", is_flag=True, help="Throw away what the machine writes.")
@click.option("--memory", type=click.IntRange(256), default=2048, metavar="MIB", help="Its RAM.")
@click.option("--cpus", type=click.IntRange(1, 64), default=2, help="Its processors.")
@click.option("--append", default="", metavar="WORDS", help="More kernel parameters (--direct).")
@click.option("--vnc", default="", metavar="ADDRESS", help="Show the screen by VNC, such as :1.")
@click.option(
    "--screenshot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Wait for the login prompt, save the screen as a PNG, and end.",
)
def run_command(
    image: Path,
    memory: int,
    append: str,
    screenshot: Path | None,
    snapshot: bool,
    **options: object,
) -> None:
    """Boot IMAGE in QEMU: as a USB stick by UEFI, its serial console in this terminal.

    KVM is used where it really runs a guest, software emulation where it does not. What the
    machine writes goes to the image, unless --snapshot is given.
    """
    plan = vm.VmPlan(
        image,
        memory_mib=memory,
        parameters=tuple(append.split()),
        network=True,
        **options,  # type: ignore[arg-type]
    )
    check_request(plan, screenshot)
    if screenshot is None:
        run_in_terminal(plan, snapshot)
    else:
        run_for_screenshot(plan, screenshot)


def check_request(plan: vm.VmPlan, screenshot: Path | None) -> None:
    """Say what is missing before anything starts."""
    state = "Nothing was started"
    missing = run.find_missing(["qemu-system-x86_64", "qemu-img", "setpriv", "mcopy"])
    if missing:
        hint = "Install qemu-system-x86, qemu-utils, util-linux and mtools."
        reason = "this machine does not have it"
        raise RamosError("cannot run a virtual machine", missing[0], reason, state, hint)
    if not plan.image.is_file():
        hint = "Make one with: ramos image build --output stick.img"
        raise RamosError("cannot boot", plan.image, "there is no such image file", state, hint)
    if plan.share is not None and not plan.share.is_dir():
        raise RamosError("cannot share", plan.share, "it is not a folder", state)
    if plan.parameters and plan.firmware != "direct":
        reason = "GRUB gives the parameters; more can only be given to a direct boot"
        raise UsageError("cannot add", "--append", reason, state, "Add --direct.")
    if screenshot is not None and not screenshot.absolute().parent.is_dir():
        raise RamosError("cannot save", screenshot, "there is no such folder", state)


def run_in_terminal(plan: vm.VmPlan, snapshot: bool) -> None:
    """Hand this terminal to the machine until it ends."""
    with tempfile.TemporaryDirectory(prefix="ramos-vm-") as name:
        scratch = Path(name)
        kvm = vm_boot.probe_kvm(scratch)
        plan, host = vm_machine.prepare(plan, scratch, snapshot=snapshot, kvm=kvm)
        how = "KVM" if kvm else "software emulation (slow; no KVM that works)"
        show_line(f"Booting with {how}. Ctrl-A X ends the machine, Ctrl-A C is QEMU's monitor.")
        if plan.share is not None:
            show_line(f"In the guest: mount -t 9p -o trans=virtio {vm.SHARE_TAG} /mnt")
        argv = vm.render_argv(plan, host)
        with run.started(argv, stdin=None, stdout=None, stderr=None) as process:
            code = process.wait()
    if sys.stdin.isatty():
        click.echo("\x1b[0m\x1b[?7h")
    if code != 0:
        raise RamosError("the virtual machine failed", "QEMU", f"exit status {code}")


def run_for_screenshot(plan: vm.VmPlan, screenshot: Path) -> None:
    """Boot without a trace on the image, and save what the screen shows at the login prompt."""
    with tempfile.TemporaryDirectory(prefix="ramos-vm-") as name:
        kvm = vm_boot.probe_kvm(Path(name))
    with vm_machine.start_machine(plan, snapshot=True, kvm=kvm) as machine:
        machine.expect(r"\S+ login: ", LOGIN_SECONDS)
        machine.take_screenshot(screenshot)
    show_line(f"Saved {screenshot}.")
