"""`ramos vm`: boot an image in a virtual machine, in this terminal."""

import os
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ramos.booted import Mode
from ramos.cli import HelpfulGroup, show_line, show_title
from ramos.errors import RefusedError, UsageError
from ramos.linux import run, terminals
from ramos.vm import accelerator, qemu, script
from ramos.vm.machine import describe_host, launch, start_machine
from ramos.vm.watch import PATIENCE, Patience, read_complaint

FILE = click.Path(path_type=Path)
PLACE = click.Path(path_type=Path, resolve_path=True)
EXAMPLES = """\b
Examples:
  ramos vm run                         boot the newest image here, as a stick
  ramos vm run stick.img --window      with its screen in a window
  ramos vm run stick.img --print       only the QEMU command, as a script
  ramos vm run stick.img --mode clean  with the third entry of the menu
  ramos vm run stick.img --bios --snapshot
  ramos vm run stick.img --direct --share ~/src
  ramos vm run stick.img --accel tcg   by software emulation, not by KVM
"""


@click.group("vm", cls=HelpfulGroup)
def vm_group() -> None:
    """Boot an image in a virtual machine."""


@vm_group.command("run", epilog=EXAMPLES)
@click.argument("image", type=FILE, required=False)
@click.option("--mode", type=click.Choice([*map(str, Mode)]), default="default", help="Boot mode.")
@click.option("--uefi", "firmware", flag_value="uefi", default="uefi", help="Firmware: UEFI.")
@click.option("--bios", "firmware", flag_value="bios", help="Firmware: BIOS.")
@click.option("--direct", "firmware", flag_value="direct", help="No firmware: kernel + initramfs.")
@click.option(
    "--bus", type=click.Choice(["usb", "virtio"]), default="usb", help="How the image is attached."
)
@click.option("--kernel", "vmlinuz", type=PLACE, metavar="FILE", help="This kernel, directly.")
@click.option("--initramfs", type=PLACE, metavar="FILE", help="This initramfs, directly.")
@click.option("--nvram", type=PLACE, metavar="FILE", help="Keep UEFI's variables in this file.")
@click.option("--share", type=FILE, metavar="DIR", help="A folder over 9p.")
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
@click.option("--window", is_flag=True, help="Show the screen in a window.")
@click.option(
    "--serial", default="", metavar="pty|tcp:PORT", help="The serial line, if not this terminal."
)
@click.option("--log", type=FILE, metavar="FILE", help="Keep what the serial line says.")
@click.option("--print", "print_only", is_flag=True, help="Print the machine as a script, and end.")
@click.option(
    "--screenshot",
    type=FILE,
    metavar="FILE",
    help="Wait for the login, save the screen as a PNG, and end.",
)
def run_command(
    image: Path | None,
    mode: str,
    memory: int,
    append: str,
    window: bool,
    screenshot: Path | None,
    snapshot: bool,
    print_only: bool,
    accel: accelerator.Accel,
    **options: Any,
) -> None:
    """Boot IMAGE in QEMU: as a USB stick by UEFI, its serial console in this terminal.

    Without a name it is the newest image (*.img) of this folder.
    KVM is used where it really runs a guest. Where it does not, or stops doing so, the machine
    is started again under software emulation. What it writes goes to the image, unless
    --snapshot is given.
    """
    plan = qemu.VmPlan(
        image or find_newest_image(),
        mode=Mode(mode),
        memory_mib=memory,
        parameters=tuple(append.split()),
        network=True,
        window=find_window() if window else "",
        **options,
    )
    if plan.vmlinuz or plan.initramfs:
        plan = replace(plan, firmware="direct")
    check_request(plan, screenshot)
    if print_only:
        for line in render_machine(plan, accel, snapshot=snapshot).splitlines():
            show_line(line, whole=True)
    elif screenshot is None:
        run_in_terminal(plan, snapshot, accel)
    else:
        run_for_screenshot(plan, screenshot, accel)


def find_newest_image() -> Path:
    """The image that was written last, of those in this folder."""
    images = [path for path in Path().glob("*.img") if path.is_file()]
    if not images:
        hint = "Name one, or make one with: ramos image build --output stick.img"
        raise RefusedError("cannot boot", Path.cwd(), "there is no image (*.img) in it", hint=hint)
    newest = max(images, key=lambda path: path.stat().st_mtime_ns)
    show_line(f"The newest image here is {newest}.", err=True)
    return newest


def find_window() -> str:
    """The kind of window that this QEMU can open here."""
    if not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        hint = "Use --vnc, or run it in a terminal of your desktop."
        raise RefusedError("cannot open", "a window", "there is no desktop here", hint=hint)
    known = run.run(["qemu-system-x86_64", "-display", "help"]).text.split()
    for name in ("gtk", "sdl"):
        if name in known:
            return name
    hint = "Install qemu-system-gui, or use --vnc."
    raise RefusedError("cannot open", "a window", "this QEMU has none", hint=hint)


def render_machine(plan: qemu.VmPlan, accel: accelerator.Accel, *, snapshot: bool) -> str:
    """The script that boots a plan; what lies only in the image cannot be named in it."""
    if plan.firmware == "direct" and not (plan.vmlinuz and plan.initramfs):
        raise UsageError(
            "cannot print",
            "a direct boot",
            "kernel and initramfs lie in the image",
            hint="Give --kernel and --initramfs, or leave --direct out.",
        )
    with tempfile.TemporaryDirectory(prefix="ramos-vm-") as scratch:
        host = describe_host(plan, Path(scratch))
    return script.render_script(plan, host, script.ACCELERATORS[accel], snapshot=snapshot)


def check_programs() -> None:
    """Refuse to begin where this machine has no QEMU."""
    missing = run.find_missing(["qemu-system-x86_64", "qemu-img", "setpriv", "mcopy"])
    if missing:
        hint = "Install qemu-system-x86, qemu-utils, util-linux and mtools."
        reason = "this machine does not have it"
        raise RefusedError("cannot run a virtual machine", missing[0], reason, hint=hint)


def check_request(plan: qemu.VmPlan, screenshot: Path | None) -> None:
    """Say what is missing before anything starts."""
    check_programs()
    if not plan.image.is_file():
        hint = "Make one with: ramos image build --output stick.img"
        raise RefusedError("cannot boot", plan.image, "there is no such image file", hint=hint)
    if plan.share is not None and not plan.share.is_dir():
        raise RefusedError("cannot share", plan.share, "it is not a folder")
    if re.fullmatch(r"|pty|tcp:[1-9][0-9]{0,4}", plan.serial) is None:
        raise UsageError("bad --serial", repr(plan.serial), "it takes pty, or tcp: and a port")
    for path in (plan.vmlinuz, plan.initramfs):
        if path is not None and not path.is_file():
            raise RefusedError("cannot boot", path, "there is no such file")
    for path in (plan.log, plan.nvram):
        if path is not None and not path.absolute().parent.is_dir():
            raise RefusedError("cannot write", path, "there is no such folder")
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
        keys = script.describe_keys(plan)
        show_line(f"Booting with {how}. {keys}.")
        show_title(keys)
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
