"""The verbs of the initramfs making a real overlay of real squashfs layers on a real ext4.

What the fakes of tests/sh cannot show: whiteouts, opaque directories and xattrs survive all three
ways of restoring, damage is met by the real tools, and the merged tree is what was saved.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ramos.store.generation import StoredFile
from tests.labs.harness import KERNEL, SHELLS, Machine, place

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
PERSIST_BYTES = 160 << 20  # more than one block group, so that there is a backup superblock
UPPER_BYTES = 2 << 30  # no less than init asks zram for

# The only stand-ins: the clock and the block device of the stick, which is a file here.
STAND_INS = """
open_shell() { echo "$STEP: $1" >"$R/shell"; exit 3; }
drop_caches() { :; }
sleep() { :; }
PERSIST_NODE=$R/stick.img
PERSIST_TYPE=ext4
"""
STEPS = """
parse_parameters
run_step mount mount_persist
run_step generation pick_generation
run_step base provide_base
run_step layers provide_layers
run_step upper make_upper
run_step overlay mount_overlay
run_step handover prepare_root
"""


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def squash(folder: Path, image: Path) -> None:
    options = ["-comp", "zstd", "-quiet", "-no-progress", "-noappend"]
    subprocess.run(["mksquashfs", folder, image, *options], check=True, stdout=subprocess.DEVNULL)


def make_whiteout(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, 0o020000, os.makedev(0, 0))


def make_rootfs(folder: Path) -> None:
    """A system that has something to delete, to replace and to hide."""
    for name in ("etc/keep", "etc/gone", "etc/changed", "opt/dir/a", "opt/dir/b", "sbin/init"):
        write(folder / name, f"base {name}")
    write(folder / "etc/becomes-dir", "base")
    write(folder / "srv/becomes-file/x", "base")
    for name in ("proc", "sys", "dev", "run", "persist"):
        (folder / name).mkdir()


def make_first_layer(folder: Path) -> None:
    write(folder / "etc/changed", "first", 0o600)
    make_whiteout(folder / "etc/gone")
    write(folder / "opt/dir/c", "first")
    os.setxattr(folder / "opt/dir", "trusted.overlay.opaque", b"y")
    make_whiteout(folder / "etc/becomes-dir")
    tool = write(folder / "usr/bin/tool", "#!/bin/sh\n", 0o4755)
    shutil.copyfile("/usr/bin/id", folder / "usr/bin/whoever")
    (folder / "usr/bin/whoever").chmod(0o4755)
    os.mknod(folder / "srv-null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(tool, "user.note", b"kept")
    plain = write(folder / "usr/bin/ping", "x", 0o755)
    os.setxattr(plain, "security.capability", CAPABILITY)
    os.link(tool, folder / "usr/bin/same-tool")
    (folder / "usr/bin/link").symlink_to("tool")
    os.mkfifo(folder / "usr/fifo")


def make_second_layer(folder: Path) -> None:
    write(folder / "etc/a-large-one", "".join(f"line {n}\n" for n in range(50000)))
    write(folder / "etc/becomes-dir/inside", "second")
    write(folder / "srv/becomes-file", "second")
    make_whiteout(folder / "usr/fifo")
    write(folder / "etc/new\nname \udce9", "second")
    folder.chmod(0o711)
    os.chown(folder, 7, 8)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base images and two layers, made once."""
    folder = tmp_path_factory.mktemp("images")
    makers: dict[str, Callable[[Path], None]] = {
        "rootfs": make_rootfs,
        "first": make_first_layer,
        "second": make_second_layer,
    }
    for name, make in makers.items():
        tree = folder / f"tree-{name}"
        tree.mkdir()
        make(tree)
        squash(tree, folder / name)
    for name in ("modules", "firmware"):
        write(folder / f"tree-{name}/usr/lib/{name}/{KERNEL}/x", name)
        squash(folder / f"tree-{name}", folder / name)
    return folder


class Stick:
    """A machine whose persist is a real ext4 in a file, and whose zram is another file."""

    def __init__(self, root: Path, images: Path) -> None:
        self.machine = Machine(root)
        self.root = root
        content = {
            name: (images / name).read_bytes() for name in os.listdir(images) if "-" not in name
        }
        for name in ("rootfs", "firmware"):
            self.machine.write(f"persist/{name}.squashfs", content[name])
        self.machine.write(f"persist/modules-{KERNEL}.squashfs", content["modules"])
        self.machine.add_generation(1, 0)
        first = self.add_layer(content["first"])
        self.machine.add_generation(2, 1, first)
        second = self.add_layer(content["second"])
        self.machine.add_generation(3, 2, first, second)
        self.newest = root / "persist" / second.path

    def add_layer(self, data: bytes) -> StoredFile:
        path = self.machine.write("persist/upperfs/layers/new", data)
        stored = self.machine.stored("layer", "upperfs/layers/new")
        name = f"upperfs/layers/{stored.sha256}.squashfs"
        path.rename(self.root / "persist" / name)
        return self.machine.stored("layer", name)

    def boot(self, shell: str, cmdline: str = "") -> dict[str, str]:
        """Write persist into the stick, unless that was done, and boot it."""
        if not (self.root / "stick.img").exists():
            self.make_image()
        self.machine.write("proc/cmdline", f"{cmdline}\n")
        script = place(STEPS, self.root, STAND_INS)
        done = subprocess.run([*SHELLS[shell], "-c", script], capture_output=True, text=True)
        lines = self.machine.read("run/ramos/boot").splitlines()
        report = dict(line.split("=", 1) for line in lines)
        return report | {"shell": self.machine.read("shell").strip(), "errors": done.stderr}

    def make_image(self) -> None:
        persist, image = self.root / "persist", self.root / "stick.img"
        size = f"{PERSIST_BYTES >> 10}k"
        subprocess.run(
            ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", persist, image, size],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with (self.root / "dev/zram0").open("wb") as file:
            file.truncate(UPPER_BYTES)
        subprocess.run(["rm", "-rf", persist], check=True)
        persist.mkdir()


@pytest.fixture
def stick(tmp_path: Path, images: Path) -> Stick:
    return Stick(tmp_path / "m", images)


def check_merged(root: Path) -> None:
    """The system with both layers is what was saved, to the last attribute."""
    assert (root / "etc/keep").read_text() == "base etc/keep"
    assert (root / "etc/changed").read_text() == "first"
    assert (root / "etc/changed").stat().st_mode & 0o7777 == 0o600
    assert not (root / "etc/gone").exists()
    assert sorted(os.listdir(root / "opt/dir")) == ["c"]
    assert (root / "etc/becomes-dir/inside").read_text() == "second"
    assert (root / "srv/becomes-file").read_text() == "second"
    assert not (root / "usr/fifo").exists()
    assert (root / "etc/new\nname \udce9").read_text() == "second"
    tool = root / "usr/bin/tool"
    assert tool.stat().st_mode & 0o7777 == 0o4755
    assert os.getxattr(tool, "user.note") == b"kept"
    assert os.getxattr(root / "usr/bin/ping", "security.capability") == CAPABILITY
    assert (root / "usr/bin/same-tool").stat().st_ino == tool.stat().st_ino
    assert (root / f"usr/lib/modules/{KERNEL}/x").read_text() == "modules"
    assert (root / f"usr/lib/firmware/{KERNEL}/x").read_text() == "firmware"
    top = root.stat()
    assert (top.st_mode & 0o7777, top.st_uid, top.st_gid) == (0o711, 7, 8)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("way", ["ram", "mount", "unpack"])
def test_layers_come_back_whole(stick: Stick, shell: str, way: str) -> None:
    report = stick.boot(shell, f"ramos.restore={way}")
    assert (report["shell"], report["generation"]) == ("", "3")
    assert (report["restore"], report["upper"]) == (way, "zram")
    check_merged(stick.root / "newroot")
    upper = stick.root / "run/ramos/upper"
    # The folder for persist, which lies elsewhere in a test, is the only thing that init adds.
    assert os.listdir(upper / "upper") == [stick.root.parts[1]]
    assert (upper / "snapshots").is_dir()
    (stick.root / "newroot/etc/keep").unlink()
    assert os.listdir(upper / "upper/etc") == ["keep"]


@pytest.mark.parametrize("way", ["ram", "unpack"])
def test_tmpfs_upper(stick: Stick, way: str) -> None:
    report = stick.boot("ash", f"ramos.upper=tmpfs ramos.restore={way}")
    assert (report["upper"], report["generation"]) == ("tmpfs", "3")
    assert report["restore"] == way
    check_merged(stick.root / "newroot")


def test_toram_lets_go_of_the_stick(stick: Stick) -> None:
    report = stick.boot("ash", "ramos.toram")
    assert (report["toram"], report["shell"]) == ("now", "")
    assert str(stick.root / "persist") not in Path("/proc/self/mounts").read_text()
    (stick.root / "stick.img").write_bytes(b"")
    check_merged(stick.root / "newroot")


def run_as_user(top: int) -> str:
    """Who a user becomes by a program in an open directory, the way to which is shut to him."""
    program = f"/proc/self/fd/{top}/usr/bin/whoever"
    argv = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", program, "-u"]
    done = subprocess.run(argv, pass_fds=[top], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("way", ["ram", "mount"])
def test_hostile_user_becomes_root_by_the_overlay_alone(stick: Stick, way: str) -> None:
    """As sudo has to work there, and in the layers and base images under it nothing has to."""
    stick.boot("ash", f"ramos.restore={way}")
    run, root = stick.root / "run/ramos", stick.root / "newroot"
    for image in (run / "rootfs", run / "modules", run / "layers/01"):
        options = os.statvfs(image).f_flag
        assert options & os.ST_NOSUID, image
        assert options & os.ST_NODEV, image
    tops = [os.open(folder, os.O_PATH) for folder in (root, run / "layers/01")]
    try:
        assert [run_as_user(top) for top in tops] == ["0\n", "1000\n"]
    finally:
        for top in tops:
            os.close(top)
    (root / "srv-null").write_bytes(b"x")
    with pytest.raises(PermissionError):
        (run / "layers/01/srv-null").write_bytes(b"x")


def test_overlay_options(stick: Stick) -> None:
    stick.boot("ash")
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    line = next(line for line in mounts if line.startswith("ramos "))
    assert "redirect_dir=nofollow" in line
    assert "volatile" in line
    assert "metacopy=on" not in line
    assert "index=on" not in line


@pytest.mark.parametrize("way", ["ram", "mount", "unpack"])
def test_flipped_bit_in_the_newest_layer_is_stepped_over(stick: Stick, way: str) -> None:
    data = bytearray(stick.newest.read_bytes())
    data[len(data) // 2] ^= 4
    stick.newest.write_bytes(data)
    report = stick.boot("ash", f"ramos.restore={way}")
    assert report["generation"] == "2"
    assert "is damaged (sha256)" in report["skipped"]
    assert (stick.root / "newroot/etc/changed").read_text() == "first"
    assert not (stick.root / "newroot/srv/becomes-file").is_file()


def test_layer_that_is_no_squashfs_is_stepped_over(stick: Stick) -> None:
    junk = stick.add_layer(b"junk" * 5000)
    stick.machine.add_generation(4, 3, junk)
    report = stick.boot("ash")
    assert report["generation"] == "3"
    assert "cannot be mounted" in report["skipped"]
    check_merged(stick.root / "newroot")


def test_layer_that_does_not_unpack_whole_is_not_used_unpacked(stick: Stick) -> None:
    data = bytearray(stick.newest.read_bytes())
    # Behind the superblock lie the data blocks: unsquashfs fails there, a mount does not look.
    data[96:136] = b"\xa5" * 40
    stick.newest.unlink()
    bad = stick.add_layer(bytes(data))
    stick.machine.add_generation(4, 3, bad)
    report = stick.boot("ash", "ramos.restore=unpack")
    assert report["restore"] == "mount"
    assert "cannot be unpacked" in stick.machine.read("run/ramos/motd")
    assert not (stick.root / "run/ramos/upper/layers").exists()


@pytest.mark.parametrize(("offset", "count"), [(1024 + 12, 8), (1024, 1024), (1024, 3000)])
def test_torn_file_system_is_repaired(stick: Stick, offset: int, count: int) -> None:
    stick.make_image()
    with (stick.root / "stick.img").open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * count)
    report = stick.boot("ash")
    assert (report["shell"], report["generation"]) == ("", "3")
    assert "repaired by e2fsck" in stick.machine.read("run/ramos/motd")
    check_merged(stick.root / "newroot")


def test_persist_that_cannot_be_repaired_opens_a_shell(stick: Stick) -> None:
    stick.make_image()
    with (stick.root / "stick.img").open("r+b") as file:
        file.write(b"\0" * PERSIST_BYTES)
    assert "cannot be mounted, and e2fsck could not repair it" in stick.boot("ash")["shell"]


def test_upper_is_not_larger_than_asked_for(stick: Stick) -> None:
    report = stick.boot("ash", "ramos.upper=tmpfs ramos.upper_size=32M")
    assert report["upper_bytes"] == str(32 << 20)
    with pytest.raises(OSError, match="No space left"):
        (stick.root / "newroot/large").write_bytes(b"x" * (40 << 20))
