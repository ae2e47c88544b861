"""The stick's own repository: what an interrupted write leaves in it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ramos.linux.fs import TEMPORARY_SUFFIX
from ramos.packages.repository import sweep_temporaries, take_back


def test_what_was_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    half, whole = tmp_path / "pool" / f"x.deb{TEMPORARY_SUFFIX}", tmp_path / "pool" / "x.deb"
    half.touch()
    whole.touch()
    site: Any = SimpleNamespace(packages=tmp_path)
    sweep_temporaries(site)
    assert [*(tmp_path / "pool").iterdir()] == [whole]


def test_what_never_came_is_taken_back_as_well(tmp_path: Path) -> None:
    """The power may go before a file of a change is written, or while it is taken back."""
    (tmp_path / "came.deb").touch()
    site: Any = SimpleNamespace(
        packages=tmp_path, manager=SimpleNamespace(list_packages=lambda _: [])
    )
    for _ in range(2):
        take_back(site, ["never/came.deb", "came.deb"])
    assert [*tmp_path.iterdir()] == []
