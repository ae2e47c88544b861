"""A local user who means harm: what cannot be saved costs itself, is named, and stops no save."""

import contextlib
import fcntl
import mmap
import os
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.layers.compare import compare_content
from ramos.save.diff import Stacks, compare_views
from ramos.save.snapshot import COARSE_CLOCK
from ramos.save.status import read_state
from ramos.save.usage import measure_upper
from ramos.store.generations import list_generations, read_generation
from tests.labs.lab import Lab

USER = 1000
MANY = 3000
EXABYTE = 1 << 60
FICLONERANGE = 0x4020940D


@pytest.fixture(params=["btrfs", "tmpfs"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    made = Lab(tmp_path, upper_kind=request.param).make().boot_first()
    os.mkdir(made.places.root / "home")
    os.chown(made.places.root / "home", USER, USER)
    return made


@pytest.fixture
def btrfs_lab(tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    return Lab(tmp_path).make().boot_first()


def save_beside(lab: Lab, name: str = "good") -> tuple[str, ...]:
    """Save with a good file beside what is there; what was left out. The good file survives."""
    (lab.places.root / name).write_text(name)
    await_tick()
    report = lab.commit()
    assert report.generation
    assert report.entries_left_out >= len(report.left_out) - 1
    unsaved = read_state(lab.places, lab.config).unsaved
    assert unsaved is not None
    assert unsaved.left_out == report.left_out, "ramos status names the same"
    if lab.upper_kind == "btrfs":
        assert lab.commit().generation == 0, "what cannot be saved is not tried for ever"
    lab.boot()
    assert (lab.places.root / name).read_text() == name
    return report.left_out


def await_tick() -> None:
    """What changes in the tick of a snapshot may have changed after it, and is saved once more."""
    start = time.clock_gettime_ns(COARSE_CLOCK)
    while time.clock_gettime_ns(COARSE_CLOCK) == start:
        time.sleep(0.001)


def make_deep(top: Path, depth: int, name: str = "d") -> None:
    """Directories in directories, by steps, beyond what any one path can name."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


@pytest.mark.parametrize("seconds", [13569465600, -3000000000, 1 << 35, -(1 << 34)])
def test_hostile_times_are_clamped(lab: Lab, seconds: int) -> None:
    path = lab.places.root / "home/late"
    for made in (path, path.with_name("folder")):
        made.mkdir() if made.name == "folder" else made.write_text("x")
        os.utime(made, (seconds, seconds))
    os.utime(lab.places.root, (seconds, seconds))
    assert save_beside(lab) == ()
    nearest = min(max(seconds, 0), (1 << 32) - 1)
    assert [int(p.stat().st_mtime) for p in (path, path.with_name("folder"))] == [nearest] * 2


@pytest.mark.parametrize(("depth", "name"), [(25, "x" * 200), (5000, "d")])
def test_hostile_depth_costs_what_is_too_deep(lab: Lab, depth: int, name: str) -> None:
    make_deep(lab.places.root / "home", depth, name)
    (lab.places.root / "home" / name / "shallow").write_text("kept")
    left_out = save_beside(lab)
    assert len(left_out) == 1
    assert left_out[0].endswith("its path is longer than 3584 bytes")
    assert (lab.places.root / "home" / name / "shallow").read_text() == "kept"
    assert not os.listdir(lab.places.snapshots_dir)
    assert not lab.places.stage_dir.exists()


@pytest.mark.parametrize(("depth", "name"), [(25, "x" * 200), (3000, "d")])
def test_hostile_depth_hides_nothing_from_who_looks(lab: Lab, depth: int, name: str) -> None:
    home = lab.places.root / "home"
    make_deep(home, depth, name)
    (home / "pipe").write_text("x")
    lab.commit()
    (home / "pipe").unlink()
    os.mkfifo(home / "pipe")
    top = next(found for found in measure_upper(lab.places.upper_dir, 0) if found.path == "/home")
    assert top.files == 2
    with Stacks(lab.places) as stacks:
        saved, running = read_generation(lab.places.persist, 1), stacks.open_running(None)
        changes = {
            change.path: change.what
            for change in compare_views(stacks.open_generation(saved), running)
        }
    assert changes.pop(b"home/pipe") == "replaced"
    ((path, what),) = changes.items()
    assert (os.path.basename(path), what) == (name.encode(), "too deep")
    assert 3584 < len(path) < 3584 + 1 + len(name) + 1


def test_hostile_pipe_in_the_place_of_a_file_holds_up_no_comparison(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    names = [os.fsencode(tmp_path / name) for name in ("file", "pipe")]
    assert compare_content(*names) == compare_content(*reversed(names)) == "it is no file any more"


def test_hostile_depth_in_what_is_added_later(lab: Lab) -> None:
    save_beside(lab)
    make_deep(lab.places.root / "home", 25, "x" * 200)
    (lab.places.root / "home/new").write_text("new")
    assert len(save_beside(lab, "later")) == 1
    assert (lab.places.root / "home/new").read_text() == "new"


def test_hostile_entry_hides_no_deletion_beside_it(lab: Lab) -> None:
    """What was saved and deleted comes right before what cannot be saved."""
    make_deep(lab.places.root / "home", 17, "d" * 200)
    here = lab.places.root / "home" / "/".join(["d" * 200] * 17)
    (here / "a").write_text("saved")
    lab.commit()
    (here / "a").unlink()
    (here / ("b" * 200)).mkdir()
    assert len(lab.commit().left_out) == 1
    lab.boot()
    assert os.listdir(here) == ["bottom"]


def test_hostile_holes_cost_the_file(lab: Lab) -> None:
    home = lab.places.root / "home"
    for name in ("whole", "also"):
        (home / name).write_text("x")
        os.chown(home / name, USER, USER)
    os.truncate(home / "whole", 6 * EXABYTE if lab.upper_kind == "btrfs" else 1 << 42)
    os.truncate(home / "also", 1 << 20)
    left_out = save_beside(lab)
    assert len(left_out) == 1
    assert "/home/whole" in left_out[0]
    assert "holes" in left_out[0]
    assert not (home / "whole").exists()
    assert (home / "also").stat().st_size == 1 << 20


def test_hostile_holes_of_one_user_are_no_other_users_loss(btrfs_lab: Lab) -> None:
    """Nobody uses up what others may have: it is counted by owner."""
    root = btrfs_lab.places.root
    for number in range(3):
        path = root / f"a{number}"
        path.write_bytes(b"")
        os.truncate(path, 12 << 30)
        os.chown(path, USER, USER)
    (root / "other").write_text("x")
    os.truncate(root / "other", 1 << 28)
    report = btrfs_lab.commit(dry_run=True)
    assert [name.split(":")[0] for name in report.left_out] == ["/a1", "/a2"]


def test_hostile_shared_extents_are_not_read_for_ever(btrfs_lab: Lab) -> None:
    """A file of 32 GiB, without a hole, in the room of one: parts of it are clones of others."""
    with (btrfs_lab.places.upper_dir / "many").open("w+b", buffering=0) as file:
        file.write(os.urandom(1 << 20))
        for shift in range(20, 35):
            length = 1 << shift
            request = struct.pack("<qQQQ", file.fileno(), 0, length, length)
            fcntl.ioctl(file.fileno(), FICLONERANGE, request)
    (left_out,) = save_beside(btrfs_lab)
    assert left_out.startswith("/many")


def spoil(lab: Lab, content: bytes) -> None:
    """Damage what the upper's device holds of a file, so that reading it fails."""
    os.sync()
    with (lab.top / "pool.img").open("r+b") as file, mmap.mmap(file.fileno(), 0) as image:
        place = image.find(content)
        image[place] ^= 1
        image.flush()
    Path("/proc/sys/vm/drop_caches").write_text("1")


def test_a_file_that_cannot_be_read_costs_itself(btrfs_lab: Lab) -> None:
    path, content = btrfs_lab.places.root / "folder/bad", os.urandom(1 << 16)
    path.parent.mkdir()
    path.write_bytes(b"old")
    assert btrfs_lab.commit().left_out == ()
    path.write_bytes(content)
    (path.parent / "good").write_text("good")
    spoil(btrfs_lab, content)
    for number in (2, 0):  # it is tried again, for it is not saved
        report = btrfs_lab.commit()
        assert (report.generation, report.entries_left_out) == (number, 1)
        assert report.left_out[0].startswith("/folder/bad: it cannot be read: Input/output error")
    path.write_bytes(b"new")
    assert btrfs_lab.commit().left_out == ()
    btrfs_lab.boot()
    assert path.read_bytes() == b"new"
    btrfs_lab.boot(2)
    assert path.read_bytes() == b"old"
    assert (path.parent / "good").read_text() == "good"


def test_what_was_left_out_stays_as_it_was_saved(lab: Lab) -> None:
    path = lab.places.root / "home/disk"
    path.write_text("old")
    save_beside(lab)
    path.write_text("new")
    os.truncate(path, 1 << 42)
    assert len(save_beside(lab, "second")) == 1
    assert path.read_text() == "old"


def test_what_was_left_out_and_deleted_does_not_come_back(lab: Lab) -> None:
    """Within one boot: saved, then not savable, then gone."""
    path = lab.places.root / "home/disk"
    folder = lab.places.root / "home/folder"
    folder.mkdir()
    (folder / "inside").write_text("old")
    path.write_text("old")
    assert lab.commit().left_out == ()
    os.truncate(path, 1 << 42)
    (folder / "inside").unlink()
    folder.rmdir()
    folder.write_text("x")
    os.truncate(folder, 1 << 42)
    assert lab.commit().entries_left_out == 2
    path.unlink()
    folder.unlink()
    assert lab.commit().whiteouts == 2
    lab.boot()
    assert not path.exists()
    assert not folder.exists()


def test_a_left_out_file_is_saved_once_it_can_be(lab: Lab) -> None:
    path = lab.places.root / "home/disk"
    path.write_text("old")
    lab.commit()
    path.write_text("new")
    os.truncate(path, 1 << 42)
    assert lab.commit().entries_left_out == 1
    os.truncate(path, 3)
    assert lab.commit().left_out == ()
    lab.boot()
    assert path.read_text() == "new"


def test_hostile_xattrs(btrfs_lab: Lab) -> None:
    """More of them than the kernel lists; and one that no squashfs knows."""
    root = btrfs_lab.places.root
    for name in ("file", "folder", "compressed"):
        path = root / name
        path.mkdir() if name == "folder" else path.write_text(name)
    (root / "folder/inside").write_text("x")
    for number in range(300):
        for name in ("file", "folder"):
            os.setxattr(root / name, f"user.{number:0240}", b"x")
    os.setxattr(root / "compressed", "user.large", bytes(8000))
    upper = btrfs_lab.places.upper_dir / "compressed"
    os.setxattr(upper, "btrfs.compression", b"zstd")
    left_out = save_beside(btrfs_lab)
    assert [name.split(":")[0] for name in left_out] == ["/file", "/folder"]
    assert (root / "compressed").read_text() == "compressed"
    assert os.getxattr(root / "compressed", "user.large") == bytes(8000)


def test_hostile_kinds_and_names(lab: Lab) -> None:
    home = lab.places.root / "home"
    (home / "pipes").mkdir()
    (home / "sockets").mkdir()
    for number in range(MANY):
        os.mkfifo(home / f"pipes/{number}")
    with contextlib.chdir(home / "sockets"):
        for number in range(MANY):
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(number))
    names = [
        b"new\nline",
        b"\xff\xfe",
        b"\x1b]0;t\x07",
        b"n" * 255,
        b"-e",
        b"\r",
        b" ",
        b"a b ",
    ]
    for name in names:
        (home / os.fsdecode(name)).write_bytes(name)
        os.symlink(name, home / os.fsdecode(name[:200] + b".link"))
    (home / "shut").mkdir()
    (home / "shut/inside").write_text("x")
    (home / "shut").chmod(0)
    assert save_beside(lab) == ()
    assert {os.fsencode(p.name) for p in home.iterdir()} >= set(names)
    assert all((home / os.fsdecode(name)).read_bytes() == name for name in names)
    assert all(stat.S_ISFIFO((home / f"pipes/{n}").lstat().st_mode) for n in range(MANY))
    assert (home / "shut").stat().st_mode & 0o777 == 0
    assert (home / "shut/inside").read_text() == "x"
    assert list_generations(lab.places.persist)


def test_hostile_names_are_shown_escaped(lab: Lab) -> None:
    path = lab.places.root / "home" / "\x1b[2J\n"
    path.write_text("x")
    os.truncate(path, 1 << 42)
    (shown,) = save_beside(lab)
    assert "\x1b" not in shown
    assert "\n" not in shown
    assert "x1b[2J" in shown


def test_hostile_locks(btrfs_lab: Lab) -> None:
    """No other user can hold a lock that a save waits for: they cannot even open it."""
    btrfs_lab.commit()
    lock = btrfs_lab.places.lock_file
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert stat.S_IMODE(lock.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("flag", ["i", "a"])
def test_hostile_flags(lab: Lab, flag: str) -> None:
    root = lab.places.root
    (root / "fixed").mkdir()
    for path in (root / "fixed/file", root / "file"):
        path.write_text("x")
    with flagged(flag, root / "fixed/file", root / "fixed", root / "file"):
        assert save_beside(lab) == ()


@contextlib.contextmanager
def flagged(flag: str, *paths: Path) -> Iterator[None]:
    """With chattr +i or +a for as long as it takes."""
    names = [str(path) for path in paths]
    done = subprocess.run(["chattr", f"+{flag}", *names], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    yield
