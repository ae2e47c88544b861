"""The runtime on real mounts: a stick that returns, a sealed persist, the daemon killed often."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ramos.daemon import links
from ramos.linux.mounts import find_mount
from ramos.shutdown import order
from ramos.stick import watch
from ramos.stick.identity import find_backing, name_disk, read_identity
from tests.conftest import REPOSITORY

KILLS = 50
START = (
    "import sys; sys.argv[0] = 'ramosd'; sys.path[:0] = sys.argv[1:]; "
    "from ramos.daemon.loop import main; main()"
)


def call(*argv: object) -> str:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def make_stick(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(64 << 20)
    call("mkfs.ext4", "-q", "-L", "ramos-persist", "-O", "verity", "-b", "4096", path)
    return path


def mount_stick(image: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    call("mount", "-o", "loop,noatime", image, target)


def test_a_returned_stick_brings_the_images_back(tmp_path: Path) -> None:
    """Two equal sticks: what was mounted from the first goes on with the second."""
    persist, tree, images = tmp_path / "persist", tmp_path / "tree", tmp_path / "mnt"
    first = make_stick(tmp_path / "first.img")
    mount_stick(first, persist)
    for folder in (tree, images):
        folder.mkdir()
    (tree / "program").write_bytes(os.urandom(300_000))
    call("mksquashfs", tree, persist / "rootfs.squashfs", "-quiet", "-no-progress")
    call("mount", "-o", "loop,ro", persist / "rootfs.squashfs", images)
    os.sync()
    call("cp", "--sparse=always", first, tmp_path / "second.img")
    node = call("losetup", "-f", "--show", tmp_path / "second.img")
    try:
        watch.remember_loops(persist, tmp_path)
        dead = watch.list_dead_loops(tmp_path)
        assert list(dead.values()) == ["rootfs.squashfs"]
        watch.check_filesystem(Path(node))
        watch.remount(Path(node), persist)
        mount = find_mount(persist)
        assert mount is not None
        assert mount.source == node
        assert {"nosuid", "nodev", "noatime"} <= {*mount.options}
        for loop, file in dead.items():
            assert watch.revive_loop(Path("/dev", loop), persist / file) == ""
        Path("/proc/sys/vm/drop_caches").write_text("3")
        assert (images / "program").read_bytes() == (tree / "program").read_bytes()
        assert watch.list_loops(persist) == dead
        call("umount", images)
        call("umount", persist)
    finally:
        call("losetup", "-d", node)


def test_identities_of_real_devices(tmp_path: Path) -> None:
    image = make_stick(tmp_path / "stick.img")
    copy = make_stick(tmp_path / "copy.img")
    mount_stick(image, tmp_path / "persist")
    mount = find_mount(tmp_path / "persist")
    assert mount is not None
    node = Path(mount.source)
    known = read_identity(node)
    assert known.uuid == call("blkid", "-o", "value", "-s", "UUID", node)
    assert known.label == "ramos-persist"
    assert find_backing(node) == node
    assert name_disk(node) == node.name
    assert watch.judge(known, node) == "same"
    assert watch.judge(known, copy) == "other", "our label, another identity"
    assert watch.judge(known, Path("/dev/null")) == ""
    assert watch.is_there(tmp_path / "persist")
    assert not watch.is_there(tmp_path)


def test_sealing_leaves_an_empty_journal_under_mounted_images(tmp_path: Path) -> None:
    persist, images = tmp_path / "persist", tmp_path / "mnt"
    image = make_stick(tmp_path / "stick.img")
    mount_stick(image, persist)
    images.mkdir()
    (tmp_path / "tree").mkdir()
    call("mksquashfs", tmp_path / "tree", persist / "a.squashfs", "-quiet", "-no-progress")
    call("mount", "-o", "loop,ro", persist / "a.squashfs", images)
    with (persist / "open").open("w") as file:
        file.write("x")
        assert "read-only" in order.seal_persist(persist), "a file open for writing holds it"
    assert order.seal_persist(persist) == ""
    mount = find_mount(persist)
    assert mount is not None
    assert {"ro", "nosuid", "nodev", "noatime"} <= {*mount.options}
    with pytest.raises(OSError, match="Read-only"):
        (persist / "x").touch()
    assert "needs_recovery" not in call("dumpe2fs", "-h", image)


def test_inotify_tells_of_entries_and_of_freed_names(tmp_path: Path) -> None:
    user, home = tmp_path / "user", tmp_path / "home"
    for folder in (user, home):
        folder.mkdir()
    watch = links.FolderWatch()
    watch.set_folders([user, home])
    (home / "other").touch()
    assert not watch.drain(user), "a file of the user's own is no business of ours"
    (user / "a").touch()
    assert watch.drain(user)
    (home / "a").touch()
    watch.drain(user)
    (home / "a").unlink()
    assert watch.drain(user), "the name is free now"
    os.close(watch.descriptor)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root of its own over this one, with a persist, a user and nothing of the host's memory."""
    call("mount", "-t", "tmpfs", "ramos-test", tmp_path)
    top = tmp_path / "root"
    for folder in (top, tmp_path / "upper", tmp_path / "work"):
        folder.mkdir()
    options = f"lowerdir=/,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    call("mount", "-t", "overlay", "-o", options, "ramos-test", top)
    for name in ("proc", "sys", "dev", str(REPOSITORY)[1:]):
        (top / name).mkdir(parents=True, exist_ok=True)
        call("mount", "--rbind", f"/{name}", top / name)
    call("mount", "-t", "tmpfs", "ramos-test", top / "run")
    for name in ("etc/ramos", "run/ramos/upper", "home/tester"):
        (top / name).mkdir(parents=True, exist_ok=True)
    swappiness = Path("/proc/sys/vm/swappiness").read_text().strip()
    settings = f"[memory]\nzram_swap = false\nswapfile = false\nswappiness = {swappiness}\n"
    (top / "etc/ramos/ramos.toml").write_text(f'{settings}[links]\nuser = "tester"\n')
    with (top / "etc/passwd").open("a") as file:
        file.write("tester:x:4242:4242::/home/tester:/bin/sh\n")
    mount_stick(make_stick(tmp_path / "stick.img"), top / "persist")
    mount = find_mount(top / "persist")
    assert mount is not None
    boot = f"mode=default\ngeneration=0\npersist={mount.source}\nupper=tmpfs\nrestore=none\n"
    (top / "run/ramos/boot").write_text(boot)
    return top


def start_daemon(top: Path) -> "subprocess.Popen[bytes]":
    paths = [str(REPOSITORY), *(p for p in sys.path if "site-packages" in p)]
    argv = ["chroot", str(top), sys.executable, "-I", "-c", START, *paths]
    return subprocess.Popen(argv, stderr=subprocess.DEVNULL)


def await_true(what: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_fifty_times_at_work(machine: Path) -> None:
    """Whenever it dies, the next one brings all in step, and nothing of the user is lost."""
    user, home = machine / "persist/user", machine / "home/tester"
    user.mkdir()
    (home / "mine").write_text("precious")
    (user / "mine").touch()
    state = machine / "run/ramos/ramosd.json"
    for number in range(KILLS):
        process = start_daemon(machine)
        (user / f"early {number}").touch()
        time.sleep(0.02 * (number % 20))
        (user / f"late {number}").touch()
        (user / f"early {number // 2}").unlink(missing_ok=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if state.exists():
            json.loads(state.read_text())
    process = start_daemon(machine)
    wanted = {entry.name for entry in user.iterdir()}
    await_true(lambda: wanted == {entry.name for entry in home.iterdir()})
    await_true(lambda: json.loads(state.read_text())["conflicts"] == 1)
    assert (home / "mine").read_text() == "precious"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_new_entries_are_linked_and_settings_read_again(machine: Path) -> None:
    process = start_daemon(machine)
    user, home = machine / "persist/user", machine / "home/tester"
    await_true(user.exists)
    assert user.stat().st_uid == 4242
    (user / "new\nname").touch()
    await_true(lambda: (home / "new\nname").is_symlink())
    assert (home / "new\nname").lstat().st_uid == 4242
    settings = machine / "etc/ramos/conf.d"
    settings.mkdir()
    (settings / "broken.toml").write_text("[[[")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None, "settings that are broken stop nothing"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_persist_that_commands_let_go_of_and_take_back(machine: Path) -> None:
    """'ramos eject' and 'ramos reconnect': the daemon sees it, and calls nothing pulled out."""
    process = start_daemon(machine)
    state = machine / "run/ramos/ramosd.json"

    def shows(word: str) -> bool:
        return state.exists() and json.loads(state.read_text())["stick"] == word

    await_true(lambda: shows("present"))
    call("umount", machine / "persist")
    await_true(lambda: shows("gone"))
    mount_stick(machine.parent / "stick.img", machine / "persist")
    await_true(lambda: shows("present"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not (machine / "run/ramos/records/failures.jsonl").exists()
