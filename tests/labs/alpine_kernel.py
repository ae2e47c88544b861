"""Alpine's kernel once more, as a newer release: what `apk upgrade` brings in the tests.

Owns: the same kernel under another name of the same length, in its image, its modules and its
paths. The image stays in its form: what unpacks it was linked for its sizes. The modules lose their
signatures, which would not fit any more, and only those come that a boot can want.
"""

import gzip
import struct
import zlib

from ramos.boot import initramfs
from ramos.linux import kmod
from tests.labs import donor
from tests.labs.alpine_mirror import Content, Spec

OLD, NEW = "6.18.56", "6.18.57"
FLAVOR = "0-virt"
RELEASE = f"{NEW}-{FLAVOR}"
# For the network card of the machine, and one that nothing loads by itself.
WANTED = "virtio_net virtio_rng dummy"
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
TABLES = ("kernel-suffix", "modules.builtin", "modules.builtin.modinfo", "modules.order")
# In the header of a bzImage: sectors before the kernel, place and length of what is packed.
SETUP_SECTORS, PAYLOAD = 0x1F1, 0x248
SECTOR = 512


def make_newer() -> Spec:
    """linux-virt, one release on."""
    root = donor.provide_root()
    modules = kmod.load(root, f"{OLD}-{FLAVOR}")
    place = f"lib/modules/{RELEASE}"
    files: dict[str, Content] = {f"{place}/{name}": modules.folder / name for name in TABLES}
    for name in sorted(modules.close({word for text in LISTS for word in text.split()})):
        body, _ = kmod.split_signature(modules.read(name))
        files[f"{place}/{modules.files[name]}"] = gzip.compress(rename(body), 1, mtime=0)
    files["boot/vmlinuz-virt"] = rename_kernel((root / "boot/vmlinuz-virt").read_bytes())
    needs = ["initramfs-generator"]
    return Spec("linux-virt", files, depends=needs, version=f"{NEW}-r0")


def rename(data: bytes) -> bytes:
    """The other release, wherever the old one stands."""
    return data.replace(f"{OLD}-{FLAVOR}".encode(), RELEASE.encode())


def rename_kernel(image: bytes) -> bytes:
    """A bzImage with the other release, packed and unpacked; not a byte of it moves."""
    offset, length = struct.unpack_from("<II", image, PAYLOAD)
    start = (image[SETUP_SECTORS] + 1) * SECTOR + offset
    packed = image[start : start + length]
    plain = zlib.decompress(packed, zlib.MAX_WBITS | 16)
    assert rename(plain) != plain
    again = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    renamed = again.compress(rename(plain)) + again.flush()
    # What follows the packed bytes is passed over, but for the last four: the size of the plain.
    assert len(renamed) <= length - 4
    filled = renamed.ljust(length - 4, b"\0") + packed[-4:]
    return rename(image[:start]) + filled + rename(image[start + length :])
