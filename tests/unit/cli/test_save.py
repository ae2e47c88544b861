"""What the commands of saving say."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from ramos.booted import Mode
from ramos.cli import save, screen
from ramos.cli.save import describe_mode
from ramos.errors import RamosError
from ramos.progress import OnProgress, Progress
from ramos.save import compact


@pytest.mark.parametrize(
    ("asked", "shown"),
    [(Mode.CLEAN, "clean"), (Mode.BACKUP, "clean (backup was asked for)")],
)
def test_a_mode_that_nobody_asked_for_is_told(asked: Mode, shown: str) -> None:
    assert describe_mode(Mode.CLEAN, asked) == shown


def test_progress_is_wiped_before_an_error_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def fail(*_: object, on_progress: OnProgress, **__: object) -> None:
        on_progress(Progress("reading it back", 1, 4))
        raise RamosError("cannot save to", "the stick", "it is gone")

    monkeypatch.setenv("RAMOS_TREE", str(tmp_path))
    for module in (save, screen):
        monkeypatch.setattr(module, "show_passing", lambda text="": shown.append(text))
    monkeypatch.setattr(compact, "compact", fail)
    assert isinstance(CliRunner().invoke(save.compact_command).exception, RamosError)
    assert shown == ["reading it back 25 %", ""]
