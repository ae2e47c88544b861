"""A virtual machine as a plan, and the plan as QEMU's command line.

Owns: which devices a machine has and what they are called. Refuses: starting anything (`machine`
does). Invariants: the image is attached as a stick with a name of its own, so that it can be
pulled and put back; nothing is taken from the user's QEMU configuration.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ramos import layout
from ramos.boot import menu
from ramos.booted import Mode
from ramos.vm.firmware import DirectKernel

STICK = "stick"
DISK = "disk"
SHARE_TAG = "share"
LOCAL_HOST = "127.0.0.1"

Firmware = Literal["uefi", "bios", "direct"]
Bus = Literal["usb", "virtio"]
# Where the serial line is: a socket, this terminal, or only its log.
Console = Literal["socket", "terminal", "none"]


@dataclass(frozen=True)
class VmPlan:
    """What machine to make of an image."""

    image: Path
    image_format: str = "raw"
    firmware: Firmware = "uefi"
    mode: Mode = Mode.DEFAULT
    bus: Bus = "usb"
    memory_mib: int = 1024
    cpus: int = 1
    share: Path | None = None
    network: bool = False
    vnc: str = ""
    # QEMU's own window: gtk or sdl.
    window: str = ""
    # Where the serial line is in place of this terminal: pty, or tcp:PORT.
    serial: str = ""
    # Where what the serial line says is kept, and the variables of UEFI.
    log: Path | None = None
    nvram: Path | None = None
    # For a direct boot only: extra kernel parameters; a kernel other than the image's, or only
    # files in place of its own.
    parameters: tuple[str, ...] = ()
    kernel: DirectKernel | None = None
    vmlinuz: Path | None = None
    initramfs: Path | None = None
    # Sync requests of the guest reach the host's disk: off for images that are thrown away.
    flush: bool = True
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class VmHost:
    """What the machine is given by the host: places of files and sockets, the accelerator."""

    scratch: Path
    kvm: bool = False
    console: Console = "socket"
    firmware_code: Path | None = None
    firmware_variables: Path | None = None
    # They are a template: what the machine writes to them is thrown away.
    drops_variables: bool = False
    direct: DirectKernel | None = None


def serial_socket(scratch: Path) -> Path:
    """Where the serial line of a driven machine is."""
    return scratch / "serial"


def serial_log(scratch: Path) -> Path:
    """What the serial line of any machine has said of late."""
    return scratch / "serial.log"


def qmp_socket(scratch: Path) -> Path:
    """Where the control channel of a driven machine is."""
    return scratch / "qmp"


def watch_socket(scratch: Path) -> Path:
    """Where the control channel is by which any machine is watched."""
    return scratch / "watch"


def render_argv(plan: VmPlan, host: VmHost) -> list[str]:
    """The whole command line; the machine dies with the process that started it."""
    return [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
        *("-name", "ramos", "-machine", "q35", "-nodefaults", "-no-user-config"),
        *(("-accel", "kvm", "-cpu", "host") if host.kvm else _software_cpu()),
        *("-m", str(plan.memory_mib), "-smp", str(plan.cpus)),
        *("-device", "virtio-rng-pci", "-vga", "std"),
        *("-smbios", f"type=1,product={menu.SERIAL_PRODUCT},version={plan.mode}"),
        *_list_console(plan, host),
        *_list_stick(plan),
        *list_boot(plan, host),
        *list_extras(plan),
        *plan.extra,
    ]


def stick_device(bus: Bus) -> dict[str, object]:
    """The stick as a device, for the command line and for putting it back."""
    device: dict[str, object] = {"id": STICK, "drive": DISK, "serial": "RAMOS-VM-0001"}
    if bus == "usb":
        return {"driver": "usb-storage", **device, "bus": "xhci.0", "removable": True}
    return {"driver": "virtio-blk-pci", **device, "bus": "plug"}


def _software_cpu() -> tuple[str, ...]:
    """Measured: qemu64 saves a fifth of the time that `max` takes.

    Without rdrand the kernel has no random numbers for its first seconds, and mkfs.btrfs waits 6 s.
    """
    return ("-accel", "tcg,thread=multi", "-cpu", "qemu64,+rdrand")


def _list_console(plan: VmPlan, host: VmHost) -> list[str]:
    scratch = host.scratch
    line = {
        "socket": f"socket,path={serial_socket(scratch)},server=on,wait=on",
        "terminal": _choose_line(plan.serial),
        "none": "null",
    }[host.console]
    log = f"logfile={serial_log(scratch)},logappend=on"
    words = [
        *("-display", name_display(plan)),
        *("-chardev", f"{line},id=serial,{log}", "-serial", "chardev:serial"),
        *("-qmp", f"unix:{watch_socket(scratch)},server=on,wait=off"),
    ]
    if host.console == "socket":
        words += ["-qmp", f"unix:{qmp_socket(scratch)},server=on,wait=off"]
    if host.console == "terminal" and not plan.serial:
        words += ["-mon", "chardev=serial,mode=readline"]
    return words


def _choose_line(serial: str) -> str:
    """The serial line of a machine that a person uses; other machines cannot reach its port."""
    kind, _, port = serial.partition(":")
    if kind == "tcp":
        return f"socket,host={LOCAL_HOST},port={port},server=on,wait=off"
    return kind or "stdio,mux=on,signal=off"


def name_display(plan: VmPlan) -> str:
    """Where its screen is shown."""
    return plan.window or (f"vnc={plan.vnc}" if plan.vnc else "none")


def _list_stick(plan: VmPlan) -> list[str]:
    flush = "off" if plan.flush else "on"
    path = str(plan.image).replace(",", ",,")
    node = f"driver={plan.image_format},node-name={DISK},cache.no-flush={flush}"
    device = {**stick_device(plan.bus), "bootindex": 1}
    words = [f"{key}={_render(value)}" for key, value in device.items() if key != "driver"]
    hub = "qemu-xhci,id=xhci" if plan.bus == "usb" else "pcie-root-port,id=plug,chassis=1"
    return [
        *("-blockdev", f"{node},file.driver=file,file.filename={path},file.cache.no-flush={flush}"),
        *("-device", hub, "-device", ",".join([str(device["driver"]), *words])),
    ]


def list_boot(plan: VmPlan, host: VmHost) -> list[str]:
    """What it boots with: a kernel, or firmware."""
    if host.direct is not None:
        place = f"/{layout.KERNELS_DIR}/{host.direct.kernel}/vmlinuz"
        words = [f"BOOT_IMAGE={place}", f"ramos.mode={plan.mode}", host.direct.parameters]
        words += plan.parameters
        line = " ".join([*words, menu.SERIAL_WORDS])
        files = ["-kernel", str(host.direct.vmlinuz), "-initrd", str(host.direct.initramfs)]
        return [*files, "-append", line]
    if host.firmware_code is None:
        return []
    pflash, drop = "if=pflash,format=raw,unit", ",snapshot=on" if host.drops_variables else ""
    return [
        *("-drive", f"{pflash}=0,readonly=on,file={host.firmware_code}"),
        *("-drive", f"{pflash}=1,file={host.firmware_variables}{drop}"),
    ]


def list_extras(plan: VmPlan) -> list[str]:
    """Network, and a shared folder."""
    words: list[str] = []
    if plan.network:
        words += ["-nic", "user,model=virtio-net-pci"]
    if plan.share is not None:
        path = str(plan.share.absolute()).replace(",", ",,")
        tag = f"mount_tag={SHARE_TAG},security_model=none,multidevs=remap"
        words += ["-virtfs", f"local,path={path},{tag}"]
    return words


def _render(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
