"""Before a save takes the place of a generation that it does not stand on, it says which."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ramos import cli
from ramos.booted import read_boot
from ramos.progress import quiet
from ramos.save import compact, history
from ramos.save.ground import find_left_behind
from ramos.save.status import read_state
from ramos.shutdown import finalsave
from tests.labs.lab import Lab

TELLS = (
    "generation 2 (with the photos) is left behind: this save becomes the default, without what"
    " only that one holds; 'ramos rollback 2' brings it back"
)


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    """Two generations; the newer one is the default."""
    lab = Lab(tmp_path, persist_mib=192).make().boot_first()
    for number, message in enumerate(("", "with the photos"), 1):
        (lab.places.root / f"file-{number}").write_text(str(number))
        lab.commit(message=message)
    return lab


def name_left_behind(lab: Lab) -> int:
    left = find_left_behind(lab.places, read_boot(lab.places))
    return left.number if left else 0


def test_a_save_in_backup_mode(lab: Lab) -> None:
    lab.boot(mode="backup")
    assert read_state(lab.places, lab.config).left_behind == 2
    assert finalsave.foretell(lab.places, lab.config) == TELLS
    assert finalsave.foretell(lab.places, replace(lab.config, at_shutdown=False)) == ""
    (lab.places.root / "other").write_text("3")
    lab.commit()
    assert name_left_behind(lab) == 0, "now the default stands on what runs"
    assert read_state(lab.places, lab.config).left_behind == 0
    lab.boot()
    assert not (lab.places.root / "file-2").exists()
    history.rollback(lab.places, 2, quiet)
    lab.boot()
    assert (lab.places.root / "file-2").read_text() == "2", "it is brought back as told"


def test_the_ordinary_save_says_nothing(lab: Lab) -> None:
    for _ in range(2):
        assert name_left_behind(lab) == 0
        assert finalsave.foretell(lab.places, lab.config) == ""
        lab.boot()
    compact.compact(lab.places, lab.config, everything=True, on_progress=quiet)
    assert name_left_behind(lab) == 0, "what runs, in fewer layers"


def test_a_rollback_is_left_behind_by_a_commit_only(lab: Lab) -> None:
    history.rollback(lab.places, 1, quiet)
    assert name_left_behind(lab) == 3
    assert finalsave.foretell(lab.places, lab.config) == "", "nothing is saved then"


def test_clean_mode_has_its_own_words(lab: Lab) -> None:
    lab.boot(mode="clean")
    assert finalsave.foretell(lab.places, lab.config) == ""


def test_the_command_says_it_before(lab: Lab) -> None:
    lab.boot(mode="backup")
    environment = {"RAMOS_TREE": str(lab.top)}
    done = CliRunner().invoke(cli.root, ["commit", "--dry-run"], env=environment)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[0] == f"note: {TELLS}"
