"""Persist grows to the whole disk, on a real partition table with a real ext4."""

import subprocess
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.stick import grow, luks

MIB = 1 << 20
SMALL = 96 * MIB
LARGE = 160 * MIB


def run(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A small stick image with two partitions and a file in persist, on a larger disk."""
    image, tree = tmp_path / "disk", tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("kept\n")
    with image.open("wb") as stream:
        stream.truncate(SMALL)
    sizes = ["-n", "1:8M:+16M", "-t", "1:ef00", "-n", "2:32M:+40M", "-c", "2:ramos-persist"]
    run("sgdisk", *sizes, image)
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, "-E", f"offset={32 * MIB}", image, "40m")
    with image.open("r+b") as stream:
        stream.truncate(LARGE)
    return image


def test_persist_grows_to_the_aligned_end_and_keeps_its_files(disk: Path) -> None:
    identity = run("sgdisk", "-i", "2", disk).split("unique GUID: ")[1].split()[0]
    partition = grow.grow_partition(disk, LARGE)
    assert partition.start_bytes == 32 * MIB
    assert (partition.start_bytes + partition.size_bytes) == LARGE - 8 * MIB
    assert grow.grow_unmounted(disk, partition)
    assert "No problems found" in run("sgdisk", "-v", disk)
    assert identity in run("sgdisk", "-i", "2", disk)
    assert "ramos-persist" in run("sgdisk", "-i", "2", disk)
    blocks = run("dumpe2fs", "-h", f"{disk}?offset={32 * MIB}").split("Block count:")[1].split()[0]
    assert int(blocks) * 1024 == partition.size_bytes
    kept = run("debugfs", "-R", "cat /file", f"{disk}?offset={32 * MIB}")
    assert kept == "kept\n"


def test_growing_twice_changes_nothing(disk: Path) -> None:
    first = grow.grow_partition(disk, LARGE)
    before = disk.read_bytes()
    assert grow.grow_partition(disk, LARGE) == first
    assert disk.read_bytes() == before


def test_an_encrypted_persist_is_left_to_its_first_boot(disk: Path, tmp_path: Path) -> None:
    file = tmp_path / "persist"
    with file.open("wb") as stream:
        stream.truncate(40 * MIB)
    run("mke2fs", "-q", "-t", "ext4", file, "8m")
    luks.encrypt_file(file, b"secret")
    with disk.open("r+b") as stream:
        stream.seek(32 * MIB)
        stream.write(file.read_bytes())
    assert not grow.grow_unmounted(disk, grow.grow_partition(disk, LARGE))


def test_another_layout_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(bytes(MIB))
    with pytest.raises(RamosError, match="cannot grow") as caught:
        grow.grow_partition(plain, MIB)
    assert "Nothing was changed" in str(caught.value)
