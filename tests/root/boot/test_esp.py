"""The ESP after a power cut, on a real FAT: it is repaired before it is written again."""

import os
import subprocess
from pathlib import Path

import pytest

from ramos.boot import esp
from tests.crash import mounts

ESP_BYTES = 64 << 20
KERNEL = "kernels/6.1.0-2-test"


def call(*words: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(words, capture_output=True, check=False)


def is_sound(fat: Path) -> bool:
    return call("fsck.fat", "-n", fat).returncode == 0


@pytest.fixture
def fat(tmp_path: Path) -> Path:
    """A FAT with a kernel's directory and a file in it."""
    file = tmp_path / "esp"
    file.touch()
    os.truncate(file, ESP_BYTES)
    (tmp_path / "vmlinuz").write_bytes(b"kernel" * 1000)
    for words in (
        ("mkfs.fat", "-F", "32", file),
        ("mmd", "-i", file, "::kernels", f"::{KERNEL}"),
        ("mcopy", "-i", file, tmp_path / "vmlinuz", f"::{KERNEL}/vmlinuz"),
    ):
        assert call(*words).returncode == 0, words
    assert is_sound(file)
    return file


def lose_directory(fat: Path) -> None:
    """As a cut leaves it: the directory's name is there, and that it is in use; the rest is not."""
    shown = call("mshowfat", "-i", fat, f"::{KERNEL}").stdout.decode()
    cluster = int(shown.split("<")[1].rstrip(">\n"))
    with fat.open("r+b") as file:
        head = file.read(64)
        sector, reserved, sectors = (
            int.from_bytes(head[a:b], "little") for a, b in ((11, 13), (14, 16), (36, 40))
        )
        for table in (reserved, reserved + sectors):
            file.seek(table * sector + 4 * cluster)
            file.write(bytes(4))
        file.seek(esp.STATE_AT)
        file.write(bytes([esp.IN_USE]))


def test_a_directory_that_is_only_a_name_is_taken_away(fat: Path) -> None:
    lose_directory(fat)
    assert not is_sound(fat)
    with mounts.loop_device(fat) as node:
        assert esp.repair(node)
        assert not esp.repair(node)
    assert is_sound(fat)
    assert call("mdir", "-i", fat, f"::{KERNEL}").returncode != 0
    assert call("mdir", "-i", fat, "::kernels").returncode == 0


def test_an_esp_that_was_unmounted_is_left_alone(fat: Path) -> None:
    before = fat.read_bytes()
    with mounts.loop_device(fat) as node:
        assert not esp.repair(node)
    assert fat.read_bytes() == before


def test_an_esp_that_somebody_has_mounted_is_left_alone(fat: Path) -> None:
    lose_directory(fat)
    before = fat.read_bytes()
    with mounts.loop_device(fat) as node:
        holder = os.open(node, os.O_RDONLY | os.O_EXCL)
        assert not esp.repair(node)
        os.close(holder)
    assert fat.read_bytes() == before


def test_what_nobody_can_repair_is_left_to_the_mount(fat: Path) -> None:
    fat.write_bytes(b"\xff" * ESP_BYTES)
    before = fat.read_bytes()
    with mounts.loop_device(fat) as node:
        esp.repair(node)
        assert not esp.repair(node.with_name("no-such-device"))
    assert fat.read_bytes() == before
