"""What the commands of saving say."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ramos.booted import Mode
from ramos.cli import save, screen
from ramos.cli.save import describe_commit, describe_mode
from ramos.errors import RamosError
from ramos.layout import Places
from ramos.progress import OnProgress, Progress
from ramos.save import compact
from ramos.save.commit import report_nothing
from ramos.store.records import find_records, read_records
from tests.unit.cli.conftest import ramos


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


def test_a_save_that_failed_is_on_record(places: Places) -> None:
    assert ramos(places, "commit").returncode == 1
    (failure,) = read_records("failures", find_records(places))
    assert failure["what"] == "save"
    assert ramos(places, "commit", "--dry-run").returncode == 1
    assert len(read_records("failures", find_records(places))) == 1


@pytest.mark.parametrize(
    ("written", "shown"), [(3 << 20, "3.0 MiB written"), (0, "1.0 MiB written")]
)
def test_a_save_says_what_was_written_as_far_as_it_is_known(written: int, shown: str) -> None:
    nothing = report_nothing("")
    report = replace(nothing, generation=7, layer_bytes=1 << 20, written_bytes=written)
    assert shown in describe_commit(report, dry_run=False)


def test_a_save_counts_what_there_is_and_names_nothing_else() -> None:
    report = replace(report_nothing(""), files=3)
    assert describe_commit(report, dry_run=True).startswith("would save 3 files (")
    report = replace(report, directories=2, whiteouts=1)
    said = describe_commit(report, dry_run=True)
    assert said.startswith("would save 3 files, 2 directories, 1 deletion (")
