"""Writing to a disk, on real loop devices: pinned, read back, and whole or without a head."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.errors import DamagedError, RamosError
from ramos.image import write
from ramos.progress import Progress, quiet
from ramos.stick.disks import LSBLK_COLUMNS, Disk, parse_disks

SIZE = 24 << 20


def attach(file: Path) -> str:
    argv = ["losetup", "--find", "--show", "--direct-io=off", str(file)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def detach(path: str) -> None:
    subprocess.run(["losetup", "--detach", path], check=False)


def look_up(path: str) -> Disk:
    argv = ["lsblk", "--json", "--bytes", "--output", LSBLK_COLUMNS, path]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    (disk,) = parse_disks(text)
    return disk


@pytest.fixture
def backing(tmp_path: Path) -> Path:
    file = tmp_path / "stick"
    file.write_bytes(os.urandom(SIZE))
    return file


@pytest.fixture
def loop(backing: Path) -> Iterator[str]:
    path = attach(backing)
    yield path
    detach(path)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "image"
    file.write_bytes(os.urandom(9 * (1 << 20) + 512))
    return file


def test_an_image_arrives_whole_and_is_read_back(loop: str, image: Path, backing: Path) -> None:
    told: list[Progress] = []
    with write.hold_target(look_up(loop)) as target:
        write.check_capacity(target, quiet)
        digest = write.write_image(target, image, told.append)
        write.read_back(target, image.stat().st_size, digest, quiet)
    assert backing.read_bytes()[: image.stat().st_size] == image.read_bytes()
    assert [seen.done for seen in told] == sorted(seen.done for seen in told)
    assert told[-1] == Progress("write", image.stat().st_size, image.stat().st_size)


def test_bytes_that_changed_on_the_disk_are_noticed(loop: str, image: Path) -> None:
    with write.hold_target(look_up(loop)) as target:
        digest = write.write_image(target, image, quiet)
        os.pwrite(os.open(loop, os.O_WRONLY | os.O_SYNC), b"!", 5 << 20)
        with pytest.raises(DamagedError, match="other bytes"):
            write.read_back(target, image.stat().st_size, digest, quiet)


def test_a_disk_in_use_is_refused(loop: str) -> None:
    disk = look_up(loop)
    with (
        write.hold_target(disk),
        pytest.raises(RamosError, match="in use"),
        write.hold_target(disk),
    ):
        pass


def test_another_disk_under_the_same_name_stops_the_write(
    loop: str, image: Path, tmp_path: Path
) -> None:
    """Between the question and the write, the loop device gets other content (a new stick)."""
    before = (tmp_path / "stick").read_bytes()
    other = tmp_path / "other"
    other.write_bytes(bytes(SIZE))
    disk = look_up(loop)
    link = tmp_path / "name"
    link.symlink_to(loop)
    with write.hold_target(Disk(**{**vars(disk), "path": str(link)})) as target:
        second = attach(other)
        try:
            link.unlink()
            link.symlink_to(second)
            with pytest.raises(RamosError, match="not the disk that was chosen"):
                write.write_image(target, image, quiet)
        finally:
            detach(second)
    assert (tmp_path / "stick").read_bytes() == before
    assert other.read_bytes() == bytes(SIZE)


def test_a_disk_that_was_exchanged_before_opening_is_refused(loop: str, tmp_path: Path) -> None:
    disk = look_up(loop)
    smaller = Disk(**{**vars(disk), "size_bytes": disk.size_bytes - 512})
    with pytest.raises(RamosError, match="not the disk"), write.hold_target(smaller):
        pass
    plain = tmp_path / "plain"
    plain.write_bytes(bytes(1 << 20))
    with (
        pytest.raises(RamosError, match="not a disk"),
        write.hold_target(Disk(**{**vars(disk), "path": str(plain)})),
    ):
        pass


def test_a_write_that_stops_leaves_no_partition_table(
    loop: str, image: Path, backing: Path
) -> None:
    def stop(seen: Progress) -> None:
        if seen.done > 6 << 20:
            raise KeyboardInterrupt

    with write.hold_target(look_up(loop)) as target, pytest.raises(KeyboardInterrupt):
        write.write_image(target, image, stop)
    assert backing.read_bytes()[: 1 << 20] == bytes(1 << 20)


def test_a_full_backing_store_is_an_error_that_says_what_is_left(
    tmp_path: Path, image: Path
) -> None:
    """A disk that fails in mid-write: its backing file cannot grow (ENOSPC comes back as EIO)."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(small)], check=True)
    file = small / "stick"
    with file.open("wb") as stream:
        stream.truncate(SIZE)
    path = attach(file)
    try:
        with write.hold_target(look_up(path)) as target:
            with pytest.raises(RamosError, match=r"no usable system") as caught:
                write.write_image(target, image, quiet)
            assert path in str(caught.value)
    finally:
        detach(path)
        subprocess.run(["umount", str(small)], check=True)


def test_an_image_that_is_too_large_touches_nothing(
    loop: str, tmp_path: Path, backing: Path
) -> None:
    before = backing.read_bytes()
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(SIZE + 512)
    with (
        write.hold_target(look_up(loop)) as target,
        pytest.raises(RamosError, match="Nothing was changed"),
    ):
        write.write_image(target, large, quiet)
    assert backing.read_bytes() == before
