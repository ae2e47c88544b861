"""Where modules lie, on a system that has one /lib and on one that has two."""

from pathlib import Path

from ramos.linux.kmod import name_library


def test_modules_lie_where_lib_leads_to(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").mkdir()
    assert name_library(tmp_path) == "lib"
    (tmp_path / "lib").rmdir()
    (tmp_path / "lib").symlink_to("usr/lib")
    assert name_library(tmp_path) == "usr/lib"
