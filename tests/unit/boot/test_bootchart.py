"""Where the time of a boot went, as far as anything was left to say so."""

import re
from pathlib import Path

from ramos.boot.bootchart import Row, draw_svg, list_rows


def test_a_boot_without_a_log_still_shows_its_services(tmp_path: Path) -> None:
    assert all(row.part not in ("kernel", "init") for row in list_rows(tmp_path / "absent"))


def test_the_scale_ends_where_the_boot_does() -> None:
    picture = draw_svg([Row("init", "init", 0.0, 2.2)], "a boot")
    assert re.findall(r"> *([0-9.]+) s</text>", picture) == ["0", "0.5", "1", "1.5", "2"]
