"""Places that hold secrets, or that root works in, are nobody else's."""

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

from ramos.image.cache import lock_cache
from ramos.image.progress import Progress
from ramos.packages.engine import workplace
from ramos.packages.site import Site


@contextlib.contextmanager
def open_nothing(_writable: bool) -> Iterator[Path]:
    yield Path("/nonexistent")


def read_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_hostile_link_in_place_of_the_work_directory(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("mine")
    site = Site("debian", tmp_path / "persist", tmp_path / "work", "6.1", open_nothing)
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
    with lock_cache(cache, Progress(lambda _: None)) as work:
        assert read_mode(cache) == 0o700
        assert read_mode(work) == 0o700
