"""Booting an image without its GRUB: the kernel that GRUB would take."""

import subprocess
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import grubenv
from ramos.errors import RamosError
from ramos.image.partitions import DiskLayout, copy_into, make_esp, make_identity, make_table
from ramos.vm.firmware import read_direct_kernel

NAMES = ("6.1.1", "6.1.2", "6.1.3")


def make_image(folder: Path, good: str, names: tuple[str, ...] = NAMES) -> Path:
    """A disk with an ESP that holds kernels."""
    disk, identity = DiskLayout(size_bytes=512 << 20), make_identity("a test")
    files = {layout.GRUB_CFG: b'set ramos_base="quiet psi=1"\n'}
    files[layout.GRUBENV] = grubenv.render(grubenv.BootEnv(good=good))
    for name in names:
        for part in ("vmlinuz", "initramfs", "complete"):
            files[f"{layout.KERNELS_DIR}/{name}/{part}"] = f"{part} of {name}".encode()
    sources = {}
    for number, (name, data) in enumerate(files.items()):
        sources[name] = folder / str(number)
        sources[name].write_bytes(data)
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(disk.size_bytes)
    make_table(image, disk, identity)
    make_esp(folder / "esp.img", disk.esp_bytes, sources, identity.esp_serial, 1_700_000_000)
    copy_into(folder / "esp.img", image, disk.esp_start)
    return image


@pytest.mark.parametrize(("good", "taken"), [("6.1.2", "6.1.2"), ("6.0", "6.1.3")])
def test_the_good_kernel_is_taken_and_else_the_last(tmp_path: Path, good: str, taken: str) -> None:
    found = read_direct_kernel(make_image(tmp_path, good), tmp_path)
    assert found.kernel == taken
    assert found.vmlinuz.read_text() == f"vmlinuz of {taken}"
    assert found.initramfs.read_text() == f"initramfs of {taken}"
    assert found.parameters == "quiet psi=1"
    label = subprocess.run(
        ["blkid", "-o", "value", "-s", "LABEL", tmp_path / "esp.img"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert label.stdout.strip() == layout.ESP_LABEL


def test_an_image_without_a_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RamosError, match="it holds no complete kernel"):
        read_direct_kernel(make_image(tmp_path, "", ()), tmp_path)
