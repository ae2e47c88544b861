"""Commits on a real overlay: odd entries, odd clocks, odd sticks."""

import contextlib
import dataclasses
import os
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from ramos.config import SaveConfig
from ramos.errors import RamosError
from ramos.save import compact, history
from ramos.save.commit import CRASH_POINTS, CommitRequest, commit
from ramos.save.session import read_session
from ramos.store.generations import list_generations, read_default
from tests.labs.lab import Lab
from tests.labs.tree import capture, explain

EXCLUDES = ("tmp/*",)


@pytest.fixture(params=["btrfs", "tmpfs"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    return Lab(tmp_path, upper_kind=request.param).make().boot_first()


@pytest.fixture
def quick_lab(tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    return Lab(tmp_path, persist_mib=192).make().boot_first()


def check_same_after_boot(lab: Lab) -> None:
    before = capture(lab.places.root, EXCLUDES)
    lab.boot()
    assert not explain(before, capture(lab.places.root, EXCLUDES))


def test_first_and_second_commit(lab: Lab) -> None:
    root = lab.places.root
    (root / "new").write_text("hello")
    (root / "a/one").unlink()
    (root / "b/c/four").write_text("changed")
    report = lab.commit(message="first")
    assert (report.generation, report.whiteouts) == (1, 1)
    (root / "new").unlink()
    (root / "b/three").write_text("changed too")
    second = lab.commit()
    assert (second.generation, second.parent, second.layers) == (2, 1, 2)
    check_same_after_boot(lab)
    assert not lab.commit().generation


def test_every_odd_entry(lab: Lab) -> None:
    root = lab.places.root
    os.mkfifo(root / "fifo")
    os.mknod(root / "block", stat.S_IFBLK | 0o660, os.makedev(259, 1048575))
    os.mknod(root / "char", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / "a/one").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "a/one"))
    os.symlink("x" * 4000, root / "long link")
    os.symlink(b"\xff\n", root / "odd link")
    for name in (b"new\nline", b"\xff\xfe", b"-o", b" ", b"\\", b'"', b"*", b"tab\t", b"n" * 255):
        (root / os.fsdecode(name)).write_bytes(name)
    (root / "setuid").write_text("s")
    os.chown(root / "setuid", 4000000000, 65534)
    (root / "setuid").chmod(0o6755)
    os.setxattr(root / "setuid", "security.capability", CAPABILITY)
    os.setxattr(root / "six", "trusted.own", bytes(range(256)))
    for number, seconds in enumerate((-1, -2208988800, 1 << 33, (1 << 32) - 1)):
        path = root / f"time{number}"
        path.mkdir()
        os.utime(path, (seconds, seconds))
    (root / "tmp/skipped").write_text("not saved")
    shutil.rmtree(root / "b/c")
    (root / "b/c").write_text("a file now")
    (root / "six").unlink()
    (root / "six").mkdir()
    (root / "one").write_text("1")
    os.link(root / "one", root / "etc/two")
    report = lab.commit()
    assert (report.sockets_skipped, report.times_clamped) == (1, 3)
    check_same_after_boot(lab)
    assert not (root / "tmp/skipped").exists()
    assert not (root / "a/one").exists(), "what a socket had replaced must not come back"


CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


def test_holes_stay_holes(quick_lab: Lab) -> None:
    path = quick_lab.places.root / "sparse"
    with path.open("wb") as file:
        file.write(b"begin")
        file.seek((1 << 30) + 12345)
        file.write(b"end")
    report = quick_lab.commit()
    assert 0 < report.changed_bytes < 1 << 20, "holes are no data"
    assert report.layer_bytes < 1 << 20
    quick_lab.boot()
    assert path.stat().st_size == (1 << 30) + 12348
    with path.open("rb") as file:
        file.seek((1 << 30) + 12340)
        assert file.read() == b"\0\0\0\0\0end"


def test_a_deep_tree(lab: Lab) -> None:
    path = lab.places.root
    for _ in range(120):
        path = path / "a-folder-in-a-folder"
        path.mkdir()
    (path / "bottom").write_text("deep")
    lab.commit()
    (path / "bottom").write_text("deeper")
    lab.commit()
    check_same_after_boot(lab)


def test_a_clock_that_jumps_back(lab: Lab) -> None:
    root = lab.places.root
    (root / "new").write_text("1")
    os.utime(root / "new", (4000000000, 4000000000))
    lab.commit()
    (root / "new").write_text("2")
    os.utime(root / "new", (1000000000, 1000000000))
    (root / "six").write_text("3")
    os.utime(root / "six", (0, 0))
    assert lab.commit().files == 2
    check_same_after_boot(lab)
    assert (root / "new").read_text() == "2"


def test_the_chain_never_grows_too_long(lab: Lab) -> None:
    config = SaveConfig(reserve_mib=1, max_layers=3)
    for number in range(9):
        (lab.places.root / f"file{number}").write_text(str(number))
        report = lab.commit(config=config)
        assert report.layers <= 3
        if number % 2:
            check_same_after_boot(lab)
    check_same_after_boot(lab)


def test_full_replaces_what_this_boot_saved(lab: Lab) -> None:
    root = lab.places.root
    (root / "one").write_text("1")
    lab.commit()
    lab.boot()
    for number in range(3):
        (root / "two").write_text(str(number))
        lab.commit()
    assert lab.commit(full=True).layers == 2
    check_same_after_boot(lab)


def test_backup_boot_and_commit(lab: Lab) -> None:
    root = lab.places.root
    for number in (1, 2):
        (root / "file").write_text(str(number))
        lab.commit()
    lab.boot(mode="backup")
    assert (root / "file").read_text() == "1"
    (root / "other").write_text("3")
    report = lab.commit()
    assert (report.generation, report.parent) == (3, 1)
    assert lab.numbers() == [1, 2, 3]
    check_same_after_boot(lab)


def test_clean_mode_saves_on_purpose_only(lab: Lab) -> None:
    root = lab.places.root
    (root / "file").write_text("1")
    lab.commit()
    lab.boot(mode="clean")
    (root / "other").write_text("2")
    with pytest.raises(RamosError, match="clean mode"):
        lab.commit()
    report = lab.commit(from_clean=True)
    assert (report.generation, report.parent, report.layers) == (2, 1, 1)
    lab.boot()
    assert not (root / "file").exists()
    assert (root / "other").exists()


def test_all_of_a_boot_that_came_to_nothing(lab: Lab) -> None:
    """What was saved before and is gone again is not below the one layer of a full save."""
    root = lab.places.root
    before = root.stat()
    (root / "file").write_text("text")
    lab.commit()
    (root / "file").unlink()
    os.utime(root, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = lab.commit(full=True)
    assert (report.generation, report.layers) == (2, 0)
    lab.boot()
    assert not (lab.places.root / "file").exists()


def test_no_room_refuses_before_and_loses_nothing_midway(quick_lab: Lab) -> None:
    root, persist = quick_lab.places.root, quick_lab.places.persist
    (root / "small").write_text("1")
    quick_lab.commit()
    (root / "big").write_bytes(os.urandom(30 << 20))
    room = SaveConfig(reserve_mib=os.statvfs(persist).f_bavail * 4096 // (1 << 20) - 10)
    with pytest.raises(RamosError, match="would be larger than") as refused:
        quick_lab.commit(config=room)
    assert "the largest file is /big with 30.0 MiB" in refused.value.reason
    assert "delete what need not be kept" in refused.value.hint
    assert quick_lab.numbers() == [1], "a save is whole, or none"
    fill_up(persist / "filler")
    with pytest.raises(RamosError, match="kept in reserve"):
        quick_lab.commit()
    history.prune_now(dataclasses.replace(quick_lab.places), SaveConfig(keep=2))
    assert os.listdir(persist / "upperfs/layers") == [
        Path(layer.path).name for layer in list_generations(persist)[0].layers
    ]
    (persist / "filler").unlink()
    assert quick_lab.commit().generation == 2
    check_same_after_boot(quick_lab)


def fill_up(path: Path) -> None:
    """Take all the room there is."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 20)):
            pass


def test_pruning_keeps_what_it_must(quick_lab: Lab) -> None:
    places = quick_lab.places
    config = SaveConfig(reserve_mib=1, keep=2)
    for number in range(1, 4):
        (places.root / "file").write_text(str(number))
        quick_lab.commit(config=config, pin=number == 1)
    quick_lab.boot()
    for number in range(4, 8):
        (places.root / "file").write_text(str(number))
        quick_lab.commit(config=config)
    assert quick_lab.numbers() == [1, 3, 6, 7], "pinned; booted; default and its parent"
    history.unpin(places, 1)
    history.prune_now(places, config)
    assert quick_lab.numbers() == [3, 6, 7]
    named = {Path(f.path).name for g in list_generations(places.persist) for f in g.saved}
    assert set(os.listdir(places.persist / "upperfs/layers")) == named


def test_layers_of_a_damaged_generation_file_stay(quick_lab: Lab) -> None:
    places = quick_lab.places
    for number in range(3):
        (places.root / "file").write_text(str(number))
        quick_lab.commit()
    path = places.persist / "upperfs/generations/000002"
    path.write_bytes(path.read_bytes().replace(b"reason=user", b"reason=uses"))
    before = set(os.listdir(places.persist / "upperfs/layers"))
    (places.root / "file").write_text("3")
    report = quick_lab.commit(config=SaveConfig(reserve_mib=1, keep=2))
    assert report.generation == 4
    assert before <= set(os.listdir(places.persist / "upperfs/layers"))


def test_a_failure_leaves_no_litter(lab: Lab) -> None:
    persist = lab.places.persist
    (lab.places.root / "file").write_text("1")
    lab.commit()
    (lab.places.root / "file").write_text("2")
    generations = persist / "upperfs/generations"
    subprocess.run(["chattr", "+i", generations], check=True)  # no name can be made there
    try:
        with pytest.raises(RamosError, match="cannot write"):
            lab.commit()
    finally:
        subprocess.run(["chattr", "-i", generations], check=True)
    assert len(os.listdir(persist / "upperfs/layers")) == 1
    assert not os.listdir(lab.places.snapshots_dir)
    assert not lab.places.stage_dir.exists()
    assert read_default(persist).number == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_killed_commit_leaves_old_or_new(quick_lab: Lab, point: str) -> None:
    places = quick_lab.places
    (places.root / "file").write_text("1")
    quick_lab.commit()
    quick_lab.boot()
    for number in range(3):
        (places.root / "file").write_text(f"more {number}")
        os.setxattr(places.root / "file", "system.posix_acl_access", ACL_OF_NOBODY)
        quick_lab.commit(full=point == "prune-layer")  # it leaves a layer that nothing names
    child = os.fork()
    if child == 0:
        os.environ["RAMOS_CRASH_AT"] = point
        try:
            (places.root / "file").write_text("last")
            (places.root / "other").write_text("")
            os.setxattr(places.root / "other", "system.posix_acl_access", ACL_OF_NOBODY)
            commit(places, CommitRequest(config=SaveConfig(reserve_mib=1, keep=2)))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    wait_until_clean(quick_lab)
    default = read_default(places.persist)
    assert default is not None
    assert os.WIFSIGNALED(status), f"it never came to {point}"
    done = CRASH_POINTS.index(point) > CRASH_POINTS.index("generation-written")
    assert default.number == (5 if done else 4)
    assert history.verify(places, everything=True, on_progress=lambda *_: None).damaged == ()
    quick_lab.commit(wait_seconds=20)  # the guard holds the lock until it has cleaned up
    assert not list((places.persist / "upperfs").rglob("*.tmp"))
    check_same_after_boot(quick_lab)
    assert (places.root / "file").read_text() == "last"


ACL_OF_NOBODY = bytes.fromhex(
    "02000000" "01000600ffffffff" "02000400feff0000" "04000400ffffffff" "10000400ffffffff"
    "20000400ffffffff"
)  # fmt: skip


def wait_until_clean(lab: Lab) -> None:
    """The guard of the dead committer cleans up; it holds the lock until it is done."""
    deadline = time.monotonic() + 20
    while os.listdir(lab.places.snapshots_dir):
        assert time.monotonic() < deadline, "a snapshot was left behind"
        time.sleep(0.01)


def test_compaction_keeps_the_session(lab: Lab) -> None:
    root = lab.places.root
    for number in range(4):
        (root / f"file{number}").write_text(str(number))
        (root / "a/one").write_text(str(number))
        lab.commit()
    report = compact.compact(lab.places, lab.config, everything=True, on_progress=lambda *_: None)
    assert (report.layers_before, report.layers_after) == (4, 1)
    session = read_session(lab.places)
    assert session is not None
    assert session.tip == report.generation
    again = compact.compact(lab.places, lab.config, everything=True, on_progress=lambda *_: None)
    assert again.generation == 0, "there is nothing to merge"
    (root / "file0").unlink()
    assert lab.commit().layers == 2
    check_same_after_boot(lab)


def test_a_change_of_nothing_but_the_root_directory(lab: Lab) -> None:
    """Owner, mode or time of `/`: in the first save of a boot, and in a later one."""
    root = lab.places.root
    assert lab.commit().generation == 0, "it looks as it did when the boot began"
    root.chmod(0o711)
    assert lab.commit().generation == 1
    os.chown(root, 7, 8)
    assert lab.commit().generation == 2
    lab.boot()
    status = root.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o711, 7, 8)
    assert lab.commit().generation == 0
    os.utime(root, (5, 5))
    assert lab.commit().generation == 3
    lab.boot()
    assert root.stat().st_mtime == 5
