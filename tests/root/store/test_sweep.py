"""What an interrupted save left is removed; what cannot be is in nobody's way."""

import subprocess
from pathlib import Path

from ramos import layout
from ramos.store.generations import sweep


def test_what_does_not_go_keeps_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / layout.GENERATIONS_DIR
    folder.mkdir(parents=True)
    stuck, half = folder / "000001.tmp", folder / "000002.tmp"
    for path in (stuck, half):
        path.touch()
    subprocess.run(["mount", "--bind", stuck, stuck], check=True)
    sweep(tmp_path)
    assert [*folder.iterdir()] == [stuck]
