"""Alpine's kernel once more: as a newer release, which `apk upgrade` brings, and as linux-lts.

Owns: the same kernel under another name of the same length, in its image, its modules and its
paths. The image stays in its form: what unpacks it was linked for its sizes. The modules lose their
signatures, which would not fit any more, and only those come that a boot can want.
"""

import gzip
import struct
import zlib
from dataclasses import dataclass

from ramos.boot import initramfs
from ramos.linux import kmod
from tests.labs import donor
from tests.labs.alpine_mirror import Content, Spec


@dataclass(frozen=True)
class Kernel:
    """What a kernel is called: 6.18.56, r0 and virt."""

    version: str
    revision: int
    flavor: str

    @property
    def release(self) -> str:
        """As `uname -r` says it."""
        return f"{self.version}-{self.revision}-{self.flavor}"

    @property
    def package(self) -> str:
        """The package's name."""
        return f"linux-{self.flavor}"

    @property
    def package_version(self) -> str:
        """And its version."""
        return f"{self.version}-r{self.revision}"


OLD, NEW = Kernel("6.18.56", 0, "virt"), Kernel("6.18.57", 0, "virt")
LTS = Kernel("6.18.56", 10, "lts")
# For the network card of the machine and DHCP, and one that nothing loads by itself.
WANTED = "virtio_net virtio_rng af_packet dummy"
LISTS = (
    initramfs.BASE_MODULES,
    initramfs.STORAGE_MODULES,
    initramfs.UPPER_MODULES,
    initramfs.WATCHDOG_MODULES,
    initramfs.KEYBOARD_MODULES,
    initramfs.HARDWARE_MODULES,
    initramfs.OTHER_MODULES,
    WANTED,
)
TABLES = ("modules.builtin", "modules.builtin.modinfo", "modules.order")
# In the header of a bzImage: sectors before the kernel, place and length of what is packed.
SETUP_SECTORS, PAYLOAD = 0x1F1, 0x248
SECTOR = 512


def make_kernel(kernel: Kernel) -> Spec:
    """The package of a kernel, of what the donor's is made."""
    root = donor.provide_root()
    modules = kmod.load(root, OLD.release)
    place = f"lib/modules/{kernel.release}"
    files: dict[str, Content] = {f"{place}/{name}": modules.folder / name for name in TABLES}
    files[f"{place}/kernel-suffix"] = f"-{kernel.flavor}\n".encode()
    for name in sorted(modules.close({word for text in LISTS for word in text.split()})):
        body, _ = kmod.split_signature(modules.read(name))
        content = gzip.compress(rename(body, kernel), 1, mtime=0)
        files[f"{place}/{modules.files[name]}"] = content
    image = (root / f"boot/vmlinuz-{OLD.flavor}").read_bytes()
    files[f"boot/vmlinuz-{kernel.flavor}"] = rename_kernel(image, kernel)
    needs = ["initramfs-generator", *(["linux-firmware-any"] if kernel.flavor == "lts" else [])]
    return Spec(kernel.package, files, depends=needs, version=kernel.package_version)


def rename(data: bytes, kernel: Kernel) -> bytes:
    """The other release, wherever the old one stands."""
    assert len(kernel.release) == len(OLD.release)
    return data.replace(OLD.release.encode(), kernel.release.encode())


def rename_kernel(image: bytes, kernel: Kernel) -> bytes:
    """A bzImage with the other release, packed and unpacked; not a byte of it moves."""
    offset, length = struct.unpack_from("<II", image, PAYLOAD)
    start = (image[SETUP_SECTORS] + 1) * SECTOR + offset
    packed = image[start : start + length]
    plain = zlib.decompress(packed, zlib.MAX_WBITS | 16)
    assert rename(plain, kernel) != plain
    again = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    renamed = again.compress(rename(plain, kernel)) + again.flush()
    # What follows the packed bytes is passed over, but for the last four: the size of the plain.
    assert len(renamed) <= length - 4
    filled = renamed.ljust(length - 4, b"\0") + packed[-4:]
    after = rename(image[start + length :], kernel)
    return rename(image[:start], kernel) + filled + after
