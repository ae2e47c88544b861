"""One flipped bit in a directory of a real ext4: it mounts, and hides files until it is mended."""

import subprocess
from pathlib import Path

import pytest

from tests.root.boot.test_boot import Stick, check_merged, images, stick  # noqa: F401

BLOCK_BYTES = 4096
# In the first entry: inode, length of the record; in a name; in the checksum at the block's end.
PLACES = (0, 5, 35, 40, BLOCK_BYTES - 2)
FOLDERS = ("/", "/upperfs", "/upperfs/generations", "/upperfs/layers")


def find_block(image: Path, folder: str) -> int:
    """The first block of a directory, by debugfs."""
    argv = ["debugfs", "-R", f"blocks {folder}", str(image)]
    shown = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return int(shown.split()[0])


def flip(image: Path, offset: int, bit: int) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        value = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([value ^ 1 << bit]))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("folder", FOLDERS)
def test_dirflip_boots_the_newest_generation(
    stick: Stick,  # noqa: F811
    folder: str,
    place: int,
) -> None:
    stick.make_image()
    image = stick.root / "stick.img"
    flip(image, find_block(image, folder) * BLOCK_BYTES + place, place % 8)
    report = stick.boot("ash")
    assert (report["shell"], report["generation"]) == ("", "3")
    assert "was repaired by e2fsck -fy" in stick.machine.read("run/ramos/motd")
    check_merged(stick.root / "newroot")
