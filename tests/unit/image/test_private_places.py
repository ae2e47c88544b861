"""Places that hold secrets, or that root works in, are nobody else's."""

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.image import partitions
from ramos.image.cache import lock_cache
from ramos.image.grub import BiosGrub
from ramos.image.steps import Steps
from ramos.packages import debian
from ramos.packages.engine import workplace
from ramos.packages.site import Site
from ramos.progress import quiet


@contextlib.contextmanager
def open_nothing(_writable: bool) -> Iterator[Path]:
    yield Path("/nonexistent")


def read_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_hostile_link_in_place_of_the_work_directory(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("mine")
    site = Site(debian, tmp_path / "persist", tmp_path / "work", "6.1", open_nothing)
    site.work.symlink_to(victim)
    with workplace(site):
        assert not site.work.is_symlink()
        assert read_mode(site.work) == 0o700
        assert not list(site.work.iterdir())
    assert (victim / "file").read_text() == "mine"
    site.work.mkdir(mode=0o777)
    (site.work / "planted").write_text("x")
    with workplace(site):
        assert read_mode(site.work) == 0o700
        assert not list(site.work.iterdir())
    assert not site.work.exists()


def test_the_cache_of_the_builder_is_private(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o755)
    with lock_cache(cache, Steps(quiet)) as work:
        assert read_mode(cache) == 0o700
        assert read_mode(work) == 0o700


def test_a_work_place_that_cannot_be_had_is_not_used(tmp_path: Path) -> None:
    """Nobody, root included, can remove what stands in proc."""
    work = Path("/proc/self/fdinfo")
    site = Site(debian, tmp_path / "persist", work, "6.1", open_nothing)
    with pytest.raises(RamosError, match=r"cannot work in: .*Nothing was changed"), workplace(site):
        pytest.fail("it was used")


def test_hostile_pipe_in_place_of_the_work_directory(tmp_path: Path) -> None:
    site = Site(debian, tmp_path / "persist", tmp_path / "work", "6.1", open_nothing)
    os.mkfifo(site.work)
    with workplace(site):
        assert read_mode(site.work) == 0o700
        assert not site.work.is_fifo()


def test_images_and_their_swap_are_nobody_elses(tmp_path: Path) -> None:
    """There are password hashes in an image, and anything in swap."""
    for name in ("esp", "persist"):
        (tmp_path / name).write_bytes(bytes(4096))
    parts = partitions.DiskParts(tmp_path / "esp", tmp_path / "persist", BiosGrub(b"", b""))
    identity = partitions.make_identity("seed")
    disk = partitions.DiskLayout(400 << 20)
    before = os.umask(0)
    try:
        partitions.assemble(tmp_path / "image", disk, parts, identity)
        partitions.make_swapfile(tmp_path / "swap", 1 << 20, uuid.UUID(int=1))
    finally:
        os.umask(before)
    assert [read_mode(tmp_path / name) for name in ("image", "swap")] == [0o600, 0o600]
