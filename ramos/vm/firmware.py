"""What a virtual machine boots with: firmware, or a kernel taken out of an image.

Owns: finding OVMF, finding the ESP inside an image file, and reading the boot menu's words from
it. Refuses: writing to the image. Invariant: a direct boot gets the same kernel, initramfs and
parameters as GRUB would give it for the good kernel.
"""

import re
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.boot.grubenv import HEADER, parse
from ramos.errors import RamosError
from ramos.linux import run

SECTOR_BYTES = 512
ESP_TYPE = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
OVMF_PAIRS = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
)


@dataclass(frozen=True)
class DirectKernel:
    """A kernel and an initramfs as files on the host, and the words that GRUB would give."""

    kernel: str
    vmlinuz: Path
    initramfs: Path
    parameters: str


def find_ovmf() -> tuple[Path, Path]:
    """UEFI firmware: the code, and an empty variable store to copy."""
    for code, variables in OVMF_PAIRS:
        if Path(code).exists() and Path(variables).exists():
            return Path(code), Path(variables)
    hint = "Install the package ovmf, or boot with --bios or --direct."
    raise RamosError("cannot boot by UEFI", "OVMF", "this machine does not have it", hint=hint)


def find_esp_start(image: Path) -> int:
    """Where the ESP starts in an image, in bytes, by its GPT."""
    with image.open("rb") as file:
        file.seek(SECTOR_BYTES)
        header = file.read(92)
        if not header.startswith(b"EFI PART"):
            raise _unreadable(image, "it has no GPT")
        first, count, size = struct.unpack_from("<QII", header, 72)
        file.seek(first * SECTOR_BYTES)
        table = file.read(min(count, 256) * size)
    for start in range(0, len(table) - size + 1, size):
        if table[start : start + 16] == ESP_TYPE.bytes_le:
            return int(struct.unpack_from("<Q", table, start + 32)[0]) * SECTOR_BYTES
    raise _unreadable(image, "it has no ESP")


def read_direct_kernel(image: Path, scratch: Path) -> DirectKernel:
    """Take the good kernel out of an image (or, without one, the last complete one)."""
    drive = f"{image}@@{find_esp_start(image)}"
    kernel = _pick_kernel(image, drive)
    for name in ("vmlinuz", "initramfs"):
        source = f"::/{layout.KERNELS_DIR}/{kernel}/{name}"
        run.run(["mcopy", "-n", "-o", "-i", drive, source, scratch / name])
    menu = run.run(["mtype", "-i", drive, f"::/{layout.GRUB_CFG}"]).text
    words = re.search(r'^set ramos_base="([^"]*)"', menu, re.MULTILINE)
    if words is None:
        raise _unreadable(image, "its boot menu names no parameters")
    return DirectKernel(kernel, scratch / "vmlinuz", scratch / "initramfs", words[1])


def _pick_kernel(image: Path, drive: str) -> str:
    kernels = [
        Path(path).parent.name
        for path in run.run(
            ["mdir", "-b", "-i", drive, f"::/{layout.KERNELS_DIR}/*/complete"], check=False
        ).text.splitlines()
    ]
    block = run.run(["mtype", "-i", drive, f"::/{layout.GRUBENV}"], check=False).stdout
    good = parse(block).good if block.startswith(HEADER) else ""
    if good in kernels:
        return good
    if not kernels:
        raise _unreadable(image, "it holds no complete kernel")
    return kernels[-1]


def _unreadable(image: Path, reason: str) -> RamosError:
    hint = "Is it a raw image made by 'ramos image build'?"
    return RamosError("cannot boot the image directly", image, reason, "It is unchanged", hint)
