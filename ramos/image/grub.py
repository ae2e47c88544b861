"""GRUB for UEFI and for BIOS as bytes, made by grub-mkimage and put in place by hand.

Owns: the two GRUB images and the boot code of the first sector. Refuses: grub-install (it needs
root, loop devices and a mounted stick). Invariant: no module is loaded from the stick, so a stick
cannot hold a GRUB and modules that do not fit each other.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.boot import menu
from ramos.errors import RamosError
from ramos.linux import run
from ramos.sizes import format_size

GRUB_DIR = Path("/usr/lib/grub")
TOOLS = ("grub-mkimage",)
PLATFORMS = {"x86_64-efi": "grub-efi-amd64-bin", "i386-pc": "grub-pc-bin"}
EFI_NAME = "EFI/BOOT/BOOTX64.EFI"
SECTOR_BYTES = 512
BOOT_CODE_BYTES = 440
# Offsets of GRUB's boot.S and diskboot.S.
BOOT_KERNEL_SECTOR = 0x5C
BOOT_DRIVE_CHECK = 0x66
CORE_BLOCK_LIST = 0x1F4
CORE_SEGMENT = 0x820
CORE_MAXIMUM_BYTES = 480 << 10


@dataclass(frozen=True)
class BiosGrub:
    """What a BIOS reads: the first sector's code, and the rest."""

    boot_code: bytes
    core: bytes


def list_missing_platforms() -> list[str]:
    """Debian packages of GRUB's platforms that this machine lacks."""
    return [package for name, package in PLATFORMS.items() if not (GRUB_DIR / name).is_dir()]


def make_efi(output: Path, early: Path) -> None:
    """GRUB as one UEFI program; `early` is the configuration inside it."""
    _make_image("x86_64-efi", output, early)


def make_bios(work: Path, early: Path, core_start_bytes: int) -> BiosGrub:
    """GRUB for BIOS, for a core that will lie at `core_start_bytes` of the disk."""
    output = work / "core.img"
    _make_image("i386-pc", output, early)
    return patch_bios(
        (GRUB_DIR / "i386-pc" / "boot.img").read_bytes(),
        output.read_bytes(),
        core_start_bytes // SECTOR_BYTES,
    )


def patch_bios(boot: bytes, core: bytes, core_sector: int) -> BiosGrub:
    """Tell the boot code where the core begins, and the core's first sector where it goes on."""
    if len(core) > CORE_MAXIMUM_BYTES:
        raise RamosError(
            "cannot use", "core.img", f"{format_size(len(core))} are too much for a BIOS"
        )
    code = bytearray(boot[:BOOT_CODE_BYTES])
    struct.pack_into("<Q", code, BOOT_KERNEL_SECTOR, core_sector)
    # As grub-install does for disks: some BIOSes do not say which drive they booted from.
    code[BOOT_DRIVE_CHECK : BOOT_DRIVE_CHECK + 2] = b"\x90\x90"
    sectors = -(-len(core) // SECTOR_BYTES)
    padded = bytearray(core.ljust(sectors * SECTOR_BYTES, b"\0"))
    struct.pack_into("<QHH", padded, CORE_BLOCK_LIST, core_sector + 1, sectors - 1, CORE_SEGMENT)
    return BiosGrub(bytes(code), bytes(padded))


def _make_image(platform: str, output: Path, early: Path) -> None:
    argv = ["grub-mkimage", "-O", platform, "-o", str(output), "-p", menu.PREFIX]
    run.run([*argv, "-c", str(early), *menu.MODULES[platform]])


def read_template(name: str) -> str:
    """One of the files of grub/."""
    return (layout.find_data("grub") / name).read_text(encoding="utf-8")
