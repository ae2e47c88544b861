"""Unsaved means mine: what the system writes by itself is counted apart, and no reason to save."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ramos.config import SaveConfig
from ramos.save.status import read_state
from tests.labs.lab import Lab

LOG, SEED = "var/log/boot", "var/lib/systemd/random-seed"


@pytest.fixture(params=["btrfs", "tmpfs"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    made = Lab(tmp_path, upper_kind=request.param).make()
    for name in (LOG, SEED):
        (made.places.run / "rootfs" / name).parent.mkdir(parents=True)
        (made.places.run / "rootfs" / name).write_text("old\n")
    return made.boot_first()


def live(lab: Lab) -> None:
    """What a system writes when nobody does anything."""
    (lab.places.root / "var/lib/systemd/linger").mkdir(exist_ok=True)
    for name in (LOG, "var/log/new/deep", SEED):
        path = lab.places.root / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write("more\n")


def count(lab: Lab) -> tuple[int, int]:
    unsaved = read_state(lab.places, lab.config).unsaved
    assert unsaved is not None
    return unsaved.mine, unsaved.system


def test_a_system_that_nobody_used_saves_nothing(lab: Lab) -> None:
    live(lab)
    assert count(lab) == (0, 3)
    for shutdown in (False, True):
        report = lab.commit(shutdown=shutdown)
        assert (report.generation, report.mine, report.system) == (0, 0, 3)
    assert list((lab.places.persist / "upperfs/layers").iterdir()) == []


def test_what_the_system_wrote_goes_along_with_what_is_mine(lab: Lab) -> None:
    live(lab)
    (lab.places.root / "etc/five").write_text("mine\n")
    (lab.places.root / "a/one").unlink()
    assert count(lab) == (2, 3)
    assert lab.commit(dry_run=True).mine == 2
    report = lab.commit()
    assert (report.generation, report.files, report.mine, report.system) == (1, 4, 2, 3)
    lab.boot()
    live(lab)
    (lab.places.root / LOG).unlink()
    assert count(lab) == (0, 3)
    assert lab.commit().generation == 0
    lab.boot()
    assert (lab.places.root / LOG).read_text() == "old\nmore\n", "as it was saved last"


@pytest.mark.parametrize("full", [False, True])
def test_what_was_saved_and_came_to_nothing_is_a_reason(lab: Lab, full: bool) -> None:
    """All of a boot is then what the system wrote, and the default holds more."""
    (lab.places.root / "etc/mine").write_text("mine\n")
    assert lab.commit().generation == 1
    (lab.places.root / "etc/mine").unlink()
    live(lab)
    assert lab.commit(shutdown=True, full=full).generation == 2
    lab.boot()
    assert not (lab.places.root / "etc/mine").exists()


def test_a_later_deletion_by_the_system_is_none_of_mine(tmp_path: Path) -> None:
    """Whiteouts are links of one: a new one changes them all."""
    lab = Lab(tmp_path).make()
    for name in ("var/log/one", "var/log/two"):
        (lab.places.run / "rootfs" / name).parent.mkdir(parents=True, exist_ok=True)
        (lab.places.run / "rootfs" / name).write_text("old\n")
    lab.boot_first()
    (lab.places.root / "var/log/one").unlink()
    (lab.places.root / "a/one").unlink()
    time.sleep(0.05)  # what changes in the tick of a save counts as changed anyway
    assert lab.commit().generation == 1
    (lab.places.root / "var/log/two").unlink()
    assert count(lab) == (0, 1)


@pytest.mark.parametrize(
    ("what", "asked"), [("message", "as it is"), ("pin", True), ("full", True)], ids=str
)
def test_who_asks_for_a_generation_gets_it(lab: Lab, what: str, asked: object) -> None:
    live(lab)
    assert lab.commit(**{what: asked}).generation == 1


@pytest.mark.parametrize("change", ["chmod", "chown", "mkdir", "anew", "xattr", "top"])
def test_a_directory_of_mine_is_a_reason(lab: Lab, change: str) -> None:
    """Though directories are copied up for what is in them, and are no reason then."""
    live(lab)
    folder = lab.places.root / "var"
    match change:
        case "chmod":
            folder.chmod(0o711)
        case "chown":
            os.chown(folder, 7, 7)
        case "mkdir":
            (folder / "mine").mkdir()
        case "anew":
            (lab.places.root / "b/c/four").unlink()
            (lab.places.root / "b/c").rmdir()
            (lab.places.root / "b/c").mkdir()
        case "xattr":
            os.setxattr(folder, "user.mine", b"yes")
        case "top":
            lab.places.root.chmod(0o711)
    assert lab.commit(shutdown=True).generation == 1
    live(lab)
    lab.boot()
    live(lab)
    assert lab.commit(shutdown=True).generation == 0


def test_who_wants_can_have_all_of_it(lab: Lab) -> None:
    live(lab)
    lab.config = replace(lab.config, system=())
    assert lab.commit().generation == 1


def test_caches_are_not_saved(lab: Lab) -> None:
    for name in (
        "var/cache/apt/pkgcache.bin",
        "var/cache/apk/APKINDEX.x.tar.gz",
        "var/cache/man/x",
    ):
        path = lab.places.root / name
        path.parent.mkdir(parents=True)
        path.write_text("much\n")
    (lab.places.root / "var/cache/debconf").mkdir()
    (lab.places.root / "var/cache/debconf/config.dat").write_text("an answer\n")
    lab.config = replace(lab.config, exclude=SaveConfig().exclude)
    assert lab.commit().files == 1
    lab.boot()
    assert (lab.places.root / "var/cache/debconf/config.dat").exists()
    assert list((lab.places.root / "var/cache/apt").iterdir()) == []
