"""Junk, and what cannot be read or was lost, among the generations: no save stops for it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ramos.store.generations import list_generations, read_default
from tests.labs.lab import Lab, call


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    made = Lab(tmp_path).make().boot_first()
    (made.places.root / "file").write_text("1")
    made.commit()
    made.boot()
    return made


def save_and_boot(lab: Lab) -> None:
    """A save works, and the next boot shows it."""
    (lab.places.root / "file").write_text("2")
    made = lab.commit()
    assert made.generation
    lab.boot()
    assert (lab.places.root / "file").read_text() == "2"
    default = read_default(lab.places.persist)
    assert default is not None
    assert default.number == made.generation


def put_directories(store: Path) -> None:
    for name in ("generations/000007", "generations/junk.tmp", f"layers/{'0' * 64}.squashfs"):
        (store / name / "inside").mkdir(parents=True)
    (store / "pins/000001").mkdir(parents=True)


def put_pipes(store: Path) -> None:
    for name in ("generations/000007", "generations/pipe"):
        os.mkfifo(store / name)


def put_temporary_directories(store: Path) -> None:
    for name in ("generations/000002.tmp", "pins/x.tmp", f"layers/new-{os.getpid()}.squashfs.tmp"):
        (store / name / "inside").mkdir(parents=True)


def put_links(store: Path) -> None:
    (store / "generations/000007").symlink_to("000007")
    (store / "generations/000008").symlink_to("/absent")
    (store / f"layers/{'1' * 64}.squashfs").symlink_to("/absent")


def put_a_large_file(store: Path) -> None:
    with (store / "generations/000007").open("wb") as file:
        file.truncate(1 << 40)


def put_what_cannot_go(store: Path) -> None:
    (store / "generations/x.tmp").touch()
    call("chattr", "+i", store / "generations/x.tmp")


@pytest.mark.parametrize(
    "junk",
    [
        *(put_directories, put_pipes, put_temporary_directories, put_links, put_a_large_file),
        put_what_cannot_go,
    ],
)
def test_hostile_junk_in_the_store(lab: Lab, junk: Callable[[Path], None]) -> None:
    junk(lab.places.persist / "upperfs")
    save_and_boot(lab)
    save_and_boot(lab)


def test_an_unreadable_generation_stops_no_save_and_keeps_its_layers(lab: Lab) -> None:
    """Nobody can tell which layers it names: none is deleted."""
    persist = lab.places.persist
    (lab.places.root / "only").write_text("in generation 2")
    assert lab.commit().generation == 2
    lab.boot(1)
    layers = set(os.listdir(persist / "upperfs/layers"))
    lab.shut_down()
    break_inode(lab, "/upperfs/generations/000002")
    with pytest.raises(OSError, match="clean"):
        (persist / "upperfs/generations/000002").read_bytes()
    lab.boot(1)
    save_and_boot(lab)
    assert layers <= set(os.listdir(persist / "upperfs/layers"))
    assert [g.number for g in list_generations(persist)] == [1, 3]


def break_inode(lab: Lab, path: str) -> None:
    """The head of a file's list of extents is not what ext4 expects."""
    call("umount", lab.places.persist)
    image = lab.top / "persist.img"
    for field in ("block[0]", "block[1]"):
        call("debugfs", "-w", "-R", f"set_inode_field {path} {field} 0x1234", image)
    call("mount", "-o", "loop,noatime", image, lab.places.persist)


@pytest.mark.parametrize("full", [True, False])
def test_the_booted_generation_is_lost_while_the_system_runs(lab: Lab, *, full: bool) -> None:
    generation = lab.places.persist / "upperfs/generations/000001"
    data = generation.read_bytes()
    (lab.places.root / "more").write_text("unsaved")
    generation.unlink()
    assert lab.commit(full=full).generation == 2
    assert generation.read_bytes() == data
    lab.boot()
    assert (lab.places.root / "file").read_text() == "1"
    assert (lab.places.root / "more").read_text() == "unsaved"


def test_a_damaged_file_of_the_booted_generation_is_written_again(lab: Lab) -> None:
    generation = lab.places.persist / "upperfs/generations/000001"
    data = generation.read_bytes()
    generation.write_bytes(data[:-5])
    save_and_boot(lab)
    assert generation.read_bytes() == data
