"""The stick's own repository: what an interrupted write leaves in it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ramos.linux.fs import TEMPORARY_SUFFIX
from ramos.packages.repository import sweep_temporaries


def test_what_was_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    half, whole = tmp_path / "pool" / f"x.deb{TEMPORARY_SUFFIX}", tmp_path / "pool" / "x.deb"
    half.touch()
    whole.touch()
    site: Any = SimpleNamespace(packages=tmp_path)
    sweep_temporaries(site)
    assert [*(tmp_path / "pool").iterdir()] == [whole]
