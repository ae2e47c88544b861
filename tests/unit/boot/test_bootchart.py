"""Where the time of a boot went, as far as anything was left to say so."""

from pathlib import Path

from ramos.boot.bootchart import list_rows


def test_a_boot_without_a_log_still_shows_its_services(tmp_path: Path) -> None:
    assert all(row.part not in ("kernel", "init") for row in list_rows(tmp_path / "absent"))
