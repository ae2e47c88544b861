"""A tool that makes a layer and does not come to an end."""

from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.layer import run_squashfs


def test_a_tool_that_stands_still_is_ended(tmp_path: Path) -> None:
    with pytest.raises(RamosError, match="it stands still"):
        run_squashfs(["sleep", "1000"], tmp_path / "layer", 1 << 20, stuck_seconds=1.5)


def test_a_tool_that_works_is_not(tmp_path: Path) -> None:
    program = "while [ $((n += 1)) -lt 300000 ]; do :; done"
    run_squashfs(["sh", "-c", program], tmp_path / "layer", 1 << 20, stuck_seconds=0.1)
