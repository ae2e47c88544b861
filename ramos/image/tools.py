"""The programs that a build runs on this machine, and which package brings each.

Owns: which of them a plan needs. Refuses: installing (build-image.sh does, where it may).
Invariant: nothing is run after the root tree that was not looked for before it.
"""

from collections.abc import Iterable

from ramos.errors import RefusedError
from ramos.image import grub, partitions, squash
from ramos.image.bases import BASES
from ramos.image.plan import Plan
from ramos.linux import run

# Packages of Debian, in which others have their programs, too.
PACKAGES = {
    "apt-config": "apt",
    "apt-get": "apt",
    "blockdev": "util-linux",
    "chroot": "coreutils",
    "cp": "coreutils",
    "cryptsetup": "cryptsetup-bin",
    "debugfs": "e2fsprogs",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "e2fsck": "e2fsprogs",
    "grub-mkimage": "grub-common",
    "lsblk": "util-linux",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "mke2fs": "e2fsprogs",
    "mksquashfs": "squashfs-tools",
    "mkswap": "util-linux",
    "mmd": "mtools",
    "mmdebstrap": "mmdebstrap",
    "openssl": "openssl",
    "partx": "util-linux",
    "resize2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "sgdisk": "gdisk",
    "unshare": "util-linux",
    "zstd": "zstd",
}
# The initramfs is packed by zstd; what writes a stick lets persist grow on it.
ALWAYS = (*partitions.TOOLS, *squash.TOOLS, *grub.TOOLS, "zstd")
FOR_DISKS = ("blockdev", "e2fsck", "lsblk", "partx", "resize2fs", "sfdisk")


def list_needed(plan: Plan) -> tuple[str, ...]:
    """Every program that this build runs."""
    more = [*BASES[plan.base].TOOLS, *(FOR_DISKS if plan.device_bytes else ())]
    more += ["openssl"] if plan.password_hash else []
    more += ["cryptsetup"] if plan.encrypt else []
    return tuple(dict.fromkeys((*ALWAYS, *more)))


def check_tools(plan: Plan) -> None:
    """Name everything that is missing, and the packages that bring it."""
    programs, platforms = run.find_missing(list_needed(plan)), grub.list_missing_platforms()
    if programs or platforms:
        packages = name_packages(programs, platforms)
        raise RefusedError(
            "cannot build",
            ", ".join((*programs, *platforms)),
            "missing on this machine",
            hint=f"Install {packages} (names of Debian's packages);"
            " ./build-image.sh does so by itself on Debian, as root.",
        )


def name_packages(programs: Iterable[str], more: Iterable[str] = ()) -> str:
    """The packages of some programs, each once."""
    return " ".join(dict.fromkeys((*(PACKAGES[program] for program in programs), *more)))
