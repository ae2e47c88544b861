"""Images leave a stick that is in use, that has other bytes, or that is pulled out meanwhile."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ramos.cli import TREE_VARIABLE, root
from ramos.errors import DamagedError, LockedError, RamosError, RefusedError
from ramos.layout import Places, layer_path
from ramos.linux.fs import hash_file, hold_lock
from ramos.linux.mounts import find_mount
from ramos.progress import quiet
from ramos.stick import toram, watch
from ramos.store import generations
from ramos.store.generation import Generation, StoredFile
from tests.crash.device import Stick, persist_mounted, plugged

CONTENT_BYTES = 3_000_000
KERNEL = "6.1.0-1-amd64"
NAMES = {"rootfs": "rootfs.squashfs", "modules": f"modules-{KERNEL}.squashfs"}


def call(*argv: object) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def allow(_size_bytes: int) -> bool:
    return True


@dataclass
class System:
    """What runs from a stick: the stick, its places, and what every program must read."""

    stick: Stick
    places: Places
    content: dict[Path, bytes]

    def move(self, has_room: Callable[[int], bool] = allow) -> str:
        return toram.move_to_ram(self.places, has_room, quiet)

    def check(self) -> None:
        """Every file is read anew, and is what it was."""
        Path("/proc/sys/vm/drop_caches").write_text("3")
        assert {path: path.read_bytes() for path in self.content} == self.content

    def check_on_stick(self) -> None:
        """As if nothing had been tried."""
        self.check()
        assert len(toram.list_on_stick(self.places)) == len(self.content)
        assert not toram.is_in_ram(self.places)
        assert not self.places.ram_dir.exists() or os.listdir(self.places.ram_dir) == []

    def replace(self, path: str, data: bytes) -> None:
        """Another file under the name: the loop device keeps the old one."""
        (self.places.persist / "new").write_bytes(data)
        (self.places.persist / "new").rename(self.places.persist / path)


def pack(tree: Path, target: Path, kind: str) -> StoredFile:
    """An image with one program, which nothing can compress."""
    (tree / "program").write_bytes(os.urandom(CONTENT_BYTES))
    call("mksquashfs", tree, target, "-quiet", "-no-progress", "-noappend")
    return StoredFile(kind, "", target.stat().st_size, hash_file(target))  # type: ignore[arg-type]


def fill_stick(base: Path, home: Path) -> dict[str, bytes]:
    """A generation with two base images and a layer; the program of each file."""
    persist, tree = home / "filled", home / "tree"
    for folder in (persist, tree):
        folder.mkdir()
    call("mkfs.ext4", "-q", "-b", "4096", base, "64M")
    call("mount", "-o", "loop", base, persist)
    generations.make_tree(persist)
    files, programs = [], {}
    for kind in ("rootfs", "modules", "layer"):
        made = pack(tree, home / "made", kind)
        path = NAMES.get(kind) or layer_path(made.sha256)
        call("cp", home / "made", persist / path)
        files.append(StoredFile(made.kind, path, made.size_bytes, made.sha256))
        programs[path] = (tree / "program").read_bytes()
    generation = Generation(1, 0, 1, KERNEL, "image", "", tuple(files))
    generations.publish_generation(persist, generation)
    call("umount", persist)
    return programs


@pytest.fixture
def system(private_mounts: None, tmp_path: Path) -> Iterator[System]:  # noqa: ARG001
    """Everything is mounted from the stick."""
    programs = fill_stick(tmp_path / "base.img", tmp_path)
    places = Places.below(tmp_path)
    places.stack.mkdir(parents=True)
    places.boot_file.write_text("mode=default\ngeneration=1\ntoram=later\n")
    with (
        plugged(tmp_path / "base.img", tmp_path / "served") as stick,
        persist_mounted(stick, places.persist),
    ):
        content = {}
        for path, program in programs.items():
            kind = next((kind for kind, name in NAMES.items() if name == path), "layers/01")
            (places.run / kind).mkdir()
            call("mount", "-o", "loop,ro", places.persist / path, places.run / kind)
            content[places.run / kind / "program"] = program
        yield System(stick, places, content)
        for program_file in content:
            call("umount", program_file.parent)
        if not find_mount(places.persist):
            call("mount", "-o", "loop", stick.disk, places.persist)
        if find_mount(places.ram_dir):
            call("umount", places.ram_dir)


def test_images_leave_the_stick_while_they_are_read(system: System) -> None:
    watch.remember_loops(system.places.persist, system.places.run)
    program, data = next(iter(system.content.items()))
    with program.open("rb") as reader:
        begun = reader.read(1000)
        assert "can be pulled out" in system.move()
        system.stick.control("vanish 0")
        Path("/proc/sys/vm/drop_caches").write_text("3")
        assert begun + reader.read() == data, "what is open goes on"
    system.check()
    assert toram.list_on_stick(system.places) == []
    assert toram.is_in_ram(system.places)
    assert watch.list_dead_loops(system.places.run) == {}, "a stick that is back takes none back"


def test_copies_are_for_root_alone_and_are_never_written_or_swapped(system: System) -> None:
    system.move()
    ram = system.places.ram_dir
    mount = find_mount(ram)
    assert mount is not None
    assert mount.filesystem == "ramfs"
    assert {"ro", "nosuid", "nodev", "noexec"} <= {*mount.options}
    assert ram.stat().st_mode & 0o777 == 0o700
    assert len(os.listdir(ram)) == len(system.content)


def test_a_second_time_there_is_nothing_to_do(system: System) -> None:
    system.move()
    before = {path.name: path.stat().st_ino for path in system.places.ram_dir.iterdir()}
    system.move()
    assert {path.name: path.stat().st_ino for path in system.places.ram_dir.iterdir()} == before
    system.check()


def test_what_init_has_copied_stays(system: System) -> None:
    """Layers are in RAM by default; only what is still on the stick is copied."""
    places = system.places
    layer = places.stack / "01"
    image = next(i for i in toram.list_images(places) if "layers" in str(i.file))
    call("umount", layer)
    places.ram_dir.mkdir(mode=0o700)
    call("mount", "-t", "ramfs", "-o", "mode=700", "ram", places.ram_dir)
    call("cp", image.file, places.ram_dir / "layer-01")
    call("mount", "-o", "remount,ro", places.ram_dir)
    call("mount", "-o", "loop,ro", places.ram_dir / "layer-01", layer)
    assert len(toram.list_on_stick(places)) == len(system.content) - 1
    system.move()
    system.stick.control("vanish 0")
    system.check()
    assert sorted(os.listdir(places.ram_dir)) == sorted(["layer-01", *NAMES.values()])


@pytest.mark.parametrize("path", NAMES.values())
def test_damage_keeps_everything_on_the_stick(system: System, path: str) -> None:
    file = system.places.persist / path
    data = bytearray(file.read_bytes())
    data[-5000] ^= 1
    with file.open("r+b") as opened:
        opened.write(data)
        os.fsync(opened.fileno())
    with pytest.raises(DamagedError, match=r"its sha256 is .*must stay in"):
        system.move()
    data[-5000] ^= 1
    with file.open("r+b") as opened:
        opened.write(data)
    system.check_on_stick()
    system.move()
    system.check()


def test_damage_in_the_middle_is_found(system: System) -> None:
    file = system.places.persist / NAMES["rootfs"]
    whole = file.read_bytes()

    def spoil(_left: int) -> bool:
        with file.open("r+b") as opened:
            opened.seek(-4000, os.SEEK_END)
            opened.write(b"spoiled")
        return True

    with pytest.raises(DamagedError, match=r"rootfs.*its sha256 is"):
        system.move(spoil)
    with file.open("r+b") as opened:
        opened.write(whole)
    system.check_on_stick()


def test_bytes_that_are_wrong_only_once_are_read_again(system: System) -> None:
    file = system.places.persist / NAMES["modules"]  # the first one that is copied
    whole, asked = file.read_bytes(), []

    def spoil_once(left: int) -> bool:
        asked.append(left)
        if left == asked[0]:
            with file.open("r+b") as opened:
                opened.write(whole if len(asked) > 1 else whole[:-4000] + bytes(4000))
        return True

    system.move(spoil_once)
    assert asked.count(asked[0]) == 2
    system.check()


def test_a_stick_that_is_pulled_in_the_middle_has_changed_nothing(system: System) -> None:
    asked: list[int] = []

    def pull(left: int) -> bool:
        asked.append(left)
        if len(asked) == 2:
            system.stick.control("vanish 0")
        return True

    with pytest.raises(DamagedError, match="Input/output error"):
        system.move(pull)
    system.stick.control("heal")
    system.check_on_stick()
    system.move()
    system.stick.control("vanish 0")
    system.check()


@pytest.mark.parametrize("enough_for", [0, 1, 2, 3, 7])
def test_too_little_ram_is_said_and_everything_stays(system: System, enough_for: int) -> None:
    """Also where it was enough at the beginning."""
    asked: list[int] = []

    def has_room(left: int) -> bool:
        asked.append(left)
        return len(asked) <= enough_for

    with pytest.raises(RamosError, match=r"no room in RAM for [0-9.]+ MiB more.*must stay in"):
        system.move(has_room)
    system.check_on_stick()
    whole = sum(image.size_bytes for image in toram.list_images(system.places))
    assert asked[0] == whole
    assert asked == sorted(asked, reverse=True)


@pytest.mark.parametrize("more", [0, 4096])
def test_another_file_under_the_name_is_refused(system: System, more: int) -> None:
    """Another image, of the same size or not, and the newest generation knows it."""
    places = system.places
    made = pack(places.run.parent / "tree", places.run.parent / "made", "modules")
    data = (places.run.parent / "made").read_bytes() + bytes(more)
    system.replace(NAMES["modules"], data)
    whole = hash_file(places.persist / NAMES["modules"])
    newer = generations.read_generation(places.persist, 1)
    modules = StoredFile(made.kind, NAMES["modules"], len(data), whole)
    files = tuple(modules if file.kind == "modules" else file for file in newer.files)
    generations.publish_generation(places.persist, Generation(2, 1, 1, KERNEL, "", "", files))
    places.boot_file.write_text("mode=clean\ngeneration=0\n")
    with pytest.raises(RamosError, match=r"cannot read from RAM.*modules.*has taken its name"):
        system.move()
    system.check()
    assert not toram.is_in_ram(places)
    left = [image.file for image in toram.list_on_stick(places)]
    assert places.persist / NAMES["modules"] in left
    assert NAMES["modules"] not in os.listdir(places.ram_dir), "what nobody reads takes no RAM"


def test_the_generation_that_was_booted_says_what_images_are(system: System) -> None:
    booted = generations.read_generation(system.places.persist, 1)
    files = tuple(replace(file, sha256="0" * 64) for file in booted.base)
    newer = replace(booted, number=2, parent=1, files=(*files, *booted.saved))
    generations.publish_generation(system.places.persist, newer)
    system.move()
    system.check()


def test_what_no_generation_names_is_refused(system: System) -> None:
    (system.places.persist / "upperfs/generations/000001").unlink()
    with pytest.raises(RefusedError, match="no generation names it"):
        system.move()
    system.check_on_stick()


def test_what_a_killed_copy_has_left_goes(system: System) -> None:
    def die(left: int) -> bool:
        if left < CONTENT_BYTES * 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    child = os.fork()
    if child == 0:
        system.move(die)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(os.listdir(system.places.ram_dir)) == 2
    with pytest.raises(RamosError, match="no room"):
        system.move(lambda _: False)
    system.check_on_stick()
    system.move()
    system.check()


def eject(system: System) -> tuple[int, str]:
    """What a person gets who types it: the exit code and the words."""
    tree = {TREE_VARIABLE: str(system.places.run.parent)}
    done = CliRunner().invoke(root, ["eject"], env=tree)
    return done.exit_code, f"{done.output}{done.exception or ''}"


def test_eject_copies_lets_go_and_says_so(system: System) -> None:
    code, said = eject(system)
    assert code == 0, said
    assert said.splitlines()[-1].startswith("You may pull it out.")
    assert find_mount(system.places.persist) is None
    system.stick.control("vanish 0")
    system.check()
    assert eject(system)[0] == 0, "it may be pulled out still"
    system.stick.control("heal")


def test_eject_is_refused_while_something_on_the_stick_is_in_use(system: System) -> None:
    system.move()
    file = system.places.persist / "mine"
    file.touch()
    with file.open() as opened, subprocess.Popen(["sleep", "600"], stdin=opened) as user:
        opened.close()
        try:
            with pytest.raises(RamosError, match=r"resource busy.*must stay in") as raised:
                watch.release_stick(system.places)
            code, _ = eject(system)
        finally:
            user.kill()
    assert code == 1
    assert raised.value.hint == f"In use by sleep ({user.pid}): end it, then try again."
    assert find_mount(system.places.persist) is not None


def test_eject_is_refused_while_images_are_read_from_the_stick(system: System) -> None:
    with pytest.raises(RamosError, match="Device or resource busy"):
        watch.release_stick(system.places)
    system.check_on_stick()


def test_eject_waits_for_no_save(system: System) -> None:
    with hold_lock(system.places.lock_file, "a save"), pytest.raises(LockedError, match="a save"):
        watch.release_stick(system.places)
    assert find_mount(system.places.persist) is not None
