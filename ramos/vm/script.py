"""A virtual machine as a short script, to keep, to read and to change.

Owns: QEMU's command as a person would write it. Refuses: starting it. Invariants: nothing is needed
but the files that the script names; it boots what `ramos vm run` boots.
"""

import shlex
from collections.abc import Sequence

from ramos.boot import menu
from ramos.vm import qemu

KEYS = "Ctrl-A X ends the machine, Ctrl-A C is QEMU's monitor"
ACCELERATORS = {"auto": ("kvm", "tcg"), "kvm": ("kvm",), "tcg": ("tcg",)}


def render_script(
    plan: qemu.VmPlan, host: qemu.VmHost, accelerators: Sequence[str], *, snapshot: bool
) -> str:
    """The script; `snapshot` throws away what the machine writes to the image."""
    return (
        f"#!/bin/sh\n# {describe_keys(plan)}.\nexec {_render(plan, host, accelerators, snapshot)}\n"
    )


def describe_keys(plan: qemu.VmPlan) -> str:
    """How one talks to the machine, and ends it."""
    if plan.serial.startswith("tcp:"):
        port = plan.serial.removeprefix("tcp:")
        return f"Its serial line is at {qemu.LOCAL_HOST}:{port}; Ctrl-C ends the machine"
    if plan.serial:
        return "QEMU names the terminal of its serial line; Ctrl-C ends the machine"
    return KEYS


def _render(
    plan: qemu.VmPlan, host: qemu.VmHost, accelerators: Sequence[str], snapshot: bool
) -> str:
    usb = plan.bus == "usb"
    path = str(plan.image.absolute()).replace(",", ",,")
    drop = ",snapshot=on" if snapshot else ""
    lines = [
        ["qemu-system-x86_64", "-machine", "q35"],
        [*(word for name in accelerators for word in ("-accel", name)), "-cpu", "max"],
        ["-m", str(plan.memory_mib), "-smp", str(plan.cpus), "-device", "virtio-rng-pci"],
        ["-smbios", f"type=1,product={menu.SERIAL_PRODUCT},version={plan.mode}"],
        ["-display", qemu.name_display(plan), "-serial", _name_serial(plan.serial)],
        ["-drive", f"if=none,id={qemu.DISK},format={plan.image_format}{drop},file={path}"],
        ["-device", "qemu-xhci"] if usb else [],
        ["-device", f"{'usb-storage' if usb else 'virtio-blk-pci'},drive={qemu.DISK},bootindex=1"],
        qemu.list_boot(plan, host),
        qemu.list_extras(plan),
    ]
    return " \\\n    ".join(shlex.join(words) for words in lines if words)


def _name_serial(serial: str) -> str:
    kind, _, port = serial.partition(":")
    if kind == "tcp":
        return f"tcp:{qemu.LOCAL_HOST}:{port},server=on,wait=off"
    return kind or "mon:stdio"
