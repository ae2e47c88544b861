"""The one builder of the initramfs: from a root tree on a build host, and from `/` on the stick.

Owns: what is in the initramfs (BusyBox, our init and its verbs, the tools of the boot, the drivers
a stick needs on real machines) and its bytes. Refuses: running anything of the root tree, files
outside it, and quietly using another compression than the one asked for. Invariants: equal inputs
give equal bytes; a tool never lacks a library; the output appears whole or not at all.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.errors import RamosError, UsageError
from ramos.linux import cpio, elf, fs, kmod, run

LIBRARY = "lib/ramos"
BUSYBOX = ("bin/busybox.static", "usr/bin/busybox.static", "bin/busybox", "usr/bin/busybox")
BIN_FOLDERS = ("usr/sbin", "sbin", "usr/bin", "bin")

# What init and its verbs call; in a shell of last resort `busybox --install` adds all the others.
APPLETS = """
 ash awk busybox cat chgrp chmod chown chroot cp cut date dd dmesg echo env false find fold grep
 head kill ln loadkmap ls lsmod mkdir mkfifo mknod modprobe mount mv od poweroff printf ps pwd
 readlink reboot rm rmdir sed setsid sh sha256sum sleep sort stat stty switch_root sync tail test
 touch tr true umount uname vi wc
"""


@dataclass(frozen=True)
class Tool:
    """A program of the boot, the package that brings it, and whether a boot can do without it."""

    name: str
    package: str
    optional: bool = False


TOOLS = (
    Tool("e2fsck", "e2fsprogs"),
    Tool("mkfs.btrfs", "btrfs-progs"),
    Tool("unsquashfs", "squashfs-tools"),
    Tool("cryptsetup", "cryptsetup-bin (Debian), cryptsetup (Alpine)"),
    # Without it every layer is read in full at boot and its sha256 compared.
    Tool("fsverity", "fsverity (Debian), fsverity-utils (Alpine)", optional=True),
)
# Programs with threads load it by name when a thread ends: no ELF header mentions it.
THREAD_LIBRARY = "libgcc_s.so.1"

# Loaded first where the firmware has left a screen: Alpine's kernels have no driver for it built
# in, and whoever has to type a passphrase must see the question.
SCREEN_MODULES = "simpledrm"
# Loaded at every boot, in this order; algorithms before their users, for else the kernel would
# start a modprobe of its own for each of them. Names change: a kernel's list has those it knows.
BASE_MODULES = "crc32c_intel crc32c_generic ext4 squashfs loop overlay"
# Loaded where there is USB.
STORAGE_MODULES = "crct10dif_generic crc64_rocksoft_generic usb_storage uas sd_mod"
UPPER_MODULES = "lz4 lz4_compress zram crc32c_cryptoapi btrfs"
LUKS_MODULES = (
    "dm_mod dm_crypt aesni_intel aes_generic xts ecb cbc essiv sha256_ssse3 sha256_generic"
    " af_alg algif_skcipher algif_hash"
)
# Loaded for a kernel on trial: the watchdogs of chipsets, and what their devices appear with.
WATCHDOG_MODULES = "lpc_ich i2c_i801 iTCO_wdt sp5100_tco wdat_wdt hpwdt i6300esb xen_wdt"
KEYBOARD_MODULES = (
    "i8042 atkbd usbhid hid_generic hid_apple hid_cherry hid_corsair hid_lenovo hid_logitech"
    " hid_logitech_dj hid_logitech_hidpp hid_microsoft hid_roccat hid_holtek_kbd i2c_hid_acpi"
    " hyperv_keyboard virtio_input"
)
# Loaded only where the machine has the hardware, by the names that the devices give themselves.
HARDWARE_MODULES = """
 xhci_pci xhci_pci_renesas ehci_pci ohci_pci uhci_hcd usb_storage uas
 ahci ata_piix ata_generic pata_acpi sata_nv sata_sil sata_sil24 sata_via sata_sis sata_uli
 sata_mv sata_promise sd_mod nvme vmd
 sdhci_pci sdhci_acpi mmc_block rtsx_pci rtsx_pci_sdmmc rtsx_usb rtsx_usb_sdmmc
 virtio_pci virtio_mmio virtio_blk virtio_scsi
 vmw_pvscsi mptspi mptsas hv_vmbus hv_storvsc xen_blkfront
"""
# For the shell of last resort, and for what the kernel asks for by itself.
OTHER_MODULES = "vfat nls_cp437 nls_iso8859_1 nls_ascii nls_utf8"
NEEDED_MODULES = "ext4 squashfs loop overlay"

# A stick that the firmware has just read needs no further second to settle;
# `usb_storage.delay_use=` on the kernel command line overrules it.
# Loop devices are made when they are needed.
MODPROBE_CONF = """options usb_storage delay_use=0
options loop max_loop=0
"""


def build_initramfs(
    root: Path,
    kernel: str,
    output: Path,
    *,
    compress: str = "zstd",
    source_date_epoch: int | None = None,
    modules_root: Path | None = None,
) -> None:
    """Write the initramfs for `kernel` from the tree at `root`.

    With `modules_root` the modules come from another tree: that of a kernel being installed.
    """
    if compress not in COMPRESSORS:
        raise UsageError(
            "unknown compression", compress, f"it is one of {', '.join(sorted(COMPRESSORS))}"
        )
    archive = cpio.Archive()
    _add_skeleton(archive)
    _add_hooks(archive)
    _add_busybox(archive, root)
    _add_tools(archive, root)
    _add_modules(archive, kmod.load(modules_root or root, kernel), kernel)
    _add_keymap(archive, root)
    plain = archive.render(source_date_epoch or 0)
    fs.write_durably(output, COMPRESSORS[compress](plain))


def _add_skeleton(archive: cpio.Archive) -> None:
    """Folders, and the console that the kernel opens before anything is mounted."""
    for folder in ("dev", "proc", "sys", "run", "tmp", "newroot", "persist", "bin", "sbin"):
        archive.add_folder(folder)
    archive.add_character_device("dev/console", 5, 1)
    archive.add_character_device("dev/null", 1, 3, 0o666)
    archive.add_symlink("etc/mtab", "/proc/mounts")
    archive.add_file("etc/modprobe.d/ramos.conf", MODPROBE_CONF.encode())


def _add_hooks(archive: cpio.Archive) -> None:
    hooks = layout.find_data("initramfs-hooks")
    archive.add_file("init", (hooks / "init").read_bytes(), 0o755)
    for path in sorted((hooks / "lib").iterdir()):
        archive.add_file(f"{LIBRARY}/{path.name}", path.read_bytes())
    archive.add_file(f"{LIBRARY}/layout.env", layout.ENV_FILE.read_bytes())


def _add_busybox(archive: cpio.Archive, root: Path) -> None:
    file = next((f for f in (elf.find_file(root, path) for path in BUSYBOX) if f), None)
    if file is None:
        hint = "Install busybox-static there."
        raise RamosError("program missing", "busybox", f"{root} does not have it", hint=hint)
    archive.add_file("bin/busybox", file.read_bytes(), 0o755)
    place = "/" + str(file.relative_to(root))
    for path, library in elf.find_libraries(root, [place]).items():
        _add_library(archive, path, library)
    for name in APPLETS.split():
        if name != "busybox":
            archive.add_symlink(f"bin/{name}", "busybox")
    # The kernel calls modprobe by this path when it needs a driver itself.
    archive.add_symlink("sbin/modprobe", "/bin/busybox")


def _add_tools(archive: cpio.Archive, root: Path) -> None:
    """The programs of the boot and their libraries."""
    places = []
    for tool in TOOLS:
        place = next(
            (f"/{d}/{tool.name}" for d in BIN_FOLDERS if elf.find_file(root, f"{d}/{tool.name}")),
            "",
        )
        file = elf.find_file(root, place) if place else None
        if file is None:
            if tool.optional:
                continue
            hint = f"Install {tool.package} there."
            raise RamosError("program missing", tool.name, f"{root} does not have it", hint=hint)
        archive.add_file(f"sbin/{tool.name}", file.read_bytes(), 0o755)
        places.append("/" + str(file.relative_to(root)))
    libraries = elf.find_libraries(root, places)
    for path, file in libraries.items():
        _add_library(archive, path, file)
    _add_thread_library(archive, root, libraries)


def _add_library(archive: cpio.Archive, path: str, file: Path) -> None:
    """Interpreters keep their path; libraries go where their loader looks by itself.

    Those of glibc and of musl may have the same name: a folder named after a C library stays.
    """
    folder, _, name = path.rpartition("/")
    place = f"lib/x86_64-linux-gnu/{name}" if folder.endswith("-linux-gnu") else f"lib/{name}"
    place = path.lstrip("/") if name.startswith("ld-") else place
    archive.add_file(place, file.read_bytes(), 0o755)


def _add_thread_library(archive: cpio.Archive, root: Path, libraries: dict[str, Path]) -> None:
    if not any(path.endswith("/libc.so.6") for path in libraries):
        return
    for folder in elf.LIBRARY_FOLDERS:
        file = elf.find_file(root, f"{folder}/{THREAD_LIBRARY}")
        if file is not None:
            _add_library(archive, f"{folder}/{THREAD_LIBRARY}", file)
            return


def _add_modules(archive: cpio.Archive, modules: kmod.Modules, kernel: str) -> None:
    """The drivers with all they depend on, their tables, and the lists that init loads."""
    lists = {
        "screen": SCREEN_MODULES,
        "base": BASE_MODULES,
        "storage": STORAGE_MODULES,
        "upper": UPPER_MODULES,
        "luks": LUKS_MODULES,
        "watchdog": WATCHDOG_MODULES,
        "keyboard": KEYBOARD_MODULES,
    }
    absent = modules.missing(set(NEEDED_MODULES.split()))
    if absent:
        raise RamosError(
            "kernel cannot boot a stick", kernel, f"it lacks {', '.join(sorted(absent))}"
        )
    by_alias = modules.close(set(HARDWARE_MODULES.split()))
    names = by_alias | modules.close(set(OTHER_MODULES.split()))
    for name, text in lists.items():
        present = [w for w in text.split() if kmod.normalize(w) in modules.files]
        names |= modules.close(set(present))
        archive.add_file(f"{LIBRARY}/modules.{name}", (" ".join(present) + "\n").encode())
    folder = f"lib/modules/{kernel}"
    table = []
    for name in sorted(names):
        body, signature = kmod.split_signature(modules.read(name))
        archive.add_file(f"{folder}/{modules.plain_path(name)}", body)
        if signature:
            # To check it takes the kernel more than half of the time of a boot on a slow machine.
            # A kernel that insists on signatures gets them back: see load_drivers.
            archive.add_file(f"{folder}/{modules.plain_path(name)}.sig", signature)
        needs = [modules.plain_path(need) for need in modules.needs[name]]
        table.append(f"{modules.plain_path(name)}: {' '.join(needs)}".rstrip() + "\n")
    archive.add_file(f"{folder}/modules.dep", "".join(table).encode())
    by_device = names - modules.close(set(KEYBOARD_MODULES.split())) | by_alias
    aliases = "".join(f"{line}\n" for line in kmod.select_aliases(modules, by_device))
    archive.add_file(f"{folder}/modules.alias", aliases.encode())
    archive.add_file(f"{folder}/modules.symbols", b"")


def _add_keymap(archive: cpio.Archive, root: Path) -> None:
    """The keyboard layout for a passphrase, where the tree has one in the form BusyBox loads."""
    folder = elf.find_file(root, "etc/keymap")
    for path in sorted(folder.glob("*.bmap*")) if folder else []:
        data = path.read_bytes()
        plain = gzip.decompress(data) if path.suffix == ".gz" else data
        archive.add_file(f"{LIBRARY}/keymap.bmap", plain)
        return


def _pack_zstd(data: bytes) -> bytes:
    return run.run(["zstd", "-1", "-T1", "-q", "-c"], stdin=data).stdout


def _pack_gzip(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def _pack_none(data: bytes) -> bytes:
    return data


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": _pack_zstd,
    "gzip": _pack_gzip,
    "none": _pack_none,
}
