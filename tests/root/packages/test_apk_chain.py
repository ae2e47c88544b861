"""What a user types on Alpine, all the way: the wrapper, `ramos`, the engine and the real apk.

Everything runs in a chroot of a root tree made for the test, as one tree of processes. Only the
mounting of the ESP is replaced by a directory: this machine's kernel may have no FAT.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import kernels
from ramos.boot.esp import read_env
from ramos.boot.kernels import list_complete
from ramos.packages import journal
from ramos.packages.alpine import SPECIAL_FILE
from ramos.packages.recipe import render_special
from ramos.packages.recipes import load_recipes
from tests.labs import alpine_mirror
from tests.labs.alpine_mirror import Spec
from tests.labs.apklab import NEW, Lab, each_real_apk, make_kernel, make_lab

pytestmark = each_real_apk
REPOSITORY = Path(__file__).resolve().parents[3]
RUNNING = os.uname().release
NANO = Spec("nano", {"usr/bin/nano": b"#!/bin/sh\n"})
NEEDY = Spec("needy", {"usr/bin/needy": b""}, depends=["linux-firmware-x"])
FIRMWARE = Spec("linux-firmware-x", {"lib/firmware/x/blob.bin": b"blob"}, version="1-r0")
LAUNCHER = f"""#!{sys.executable}
import contextlib, sys
from pathlib import Path
sys.path.insert(0, "{REPOSITORY}")
from ramos.boot import esp
@contextlib.contextmanager
def mount_esp(boot, *, writable):
    yield Path("/esp")
esp.mount_esp = mount_esp
from ramos.cli import main
main()
"""


@dataclass(frozen=True)
class System:
    """A root tree with the wrapper, as a shell on the stick sees it."""

    lab: Lab

    def apk(self, line: str, code: int = 0, program: str = "apk") -> str:
        """What `apk ...` prints, errors too."""
        # A route, to nowhere: the engine asks for one, and the mirror is on a disk.
        setup = "ip link set lo up && ip route add default dev lo"
        enter = f'exec chroot {self.lab.root.path} /bin/sh -c "{program} {line}"'
        argv = ["unshare", "--net", "sh", "-c", f"{setup} && {enter}"]
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(
            argv,
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, f"apk {line}: {done.returncode}\n{done.stdout}"
        assert "Traceback" not in done.stdout
        return done.stdout

    def read_state(self) -> tuple[object, ...]:
        """Everything that special packages are made of: the stick, and the packages' records."""
        names = ("linux-lts", "linux-firmware-x", "linux-virt")
        records = [self.lab.root.read_record(name) for name in names]
        return self.lab.stick(), self.lab.root.read_world(), records


@pytest.fixture
def system(apk: Path, tmp_path: Path, private_mounts: None) -> System:
    del private_mounts
    lab = make_lab(apk, tmp_path, RUNNING)
    lab.publish(NANO, NEEDY, FIRMWARE)
    root = lab.root.path
    for name in ("persist", "esp", "mirror", "proc", "sys", "dev", "run/ramos"):
        (root / name).mkdir(parents=True, exist_ok=True)
    places = {"persist": lab.site.persist, "esp": lab.esp, "mirror": lab.mirror.path}
    places |= {name: Path("/") / name for name in ("proc", "sys", "dev")}
    for name, source in places.items():
        subprocess.run(["mount", "--bind", source, root / name], check=True)
    (root / "etc/apk/repositories").write_text(f"/mirror/{alpine_mirror.BRANCH}/main\n")
    (root / "run/ramos/boot").write_text("mode=default\ngeneration=1\n")
    shutil.rmtree(root / "usr/local/sbin", ignore_errors=True)
    (root / "usr/local/sbin").mkdir()
    (root / "usr/local/sbin/apk").symlink_to(REPOSITORY / "apk-triggers/alpine/apk")
    (root / "usr/share/ramos").mkdir(parents=True)
    (root / "usr/share/ramos/apk-triggers").symlink_to(REPOSITORY / "apk-triggers")
    (root / "etc/apk/commit_hooks.d").mkdir()
    hook = "/usr/share/ramos/apk-triggers/alpine/commit-hook"
    (root / "etc/apk/commit_hooks.d/ramos").symlink_to(hook)
    shutil.copy(apk, root / "usr/sbin/apk")
    (root / "usr/local/sbin/ramos").write_text(LAUNCHER)
    (root / "usr/local/sbin/ramos").chmod(0o755)
    special = render_special(load_recipes(tmp_path / "none").usable, "alpine")
    (root / SPECIAL_FILE).write_text(special)
    return System(lab)


def test_a_stick_is_looked_after_by_apk_alone(system: System) -> None:
    """Days of a user who knows nothing but apk."""
    lab, root = system.lab, system.lab.root.path
    stock = lab.root.read_record("linux-lts")
    # As the image builder leaves it: the kernel is on the ESP.
    (root / "boot/vmlinuz-lts").unlink()
    before = system.read_state()
    # Telling, and what is nobody's business but apk's.
    assert "linux-lts" in system.apk("add --simulate linux-lts htop")
    assert "every special package is up to date" in system.apk("upgrade --simulate")
    system.apk("add nano")
    assert (root / "usr/bin/nano").exists()
    system.apk("del nano")
    system.apk("audit")
    system.apk("fix")
    system.apk("fix -r")
    assert system.read_state() == before
    assert not (root / "boot/vmlinuz-lts").exists()
    bring_newer(system)
    assert lab.root.read_record("linux-lts") != stock
    keep_newer(system)


def bring_newer(system: System) -> None:
    """A newer kernel, and a newer ordinary package."""
    lab = system.lab
    lab.publish(
        make_kernel(NEW, "6.12.60-r0"), Spec("htop", {"usr/bin/htop": b"3.1"}, version="3.1-r0")
    )
    assert "linux-lts 6.12.40-r0 -> 6.12.60-r0" in system.apk("upgrade -s")
    assert "V:6.12.40-r0" in lab.root.read_record("linux-lts")
    said = system.apk("upgrade")
    assert f"kernel {NEW} is tried at the next boot; if it fails, the old one is back" in said
    check_new_kernel(system)
    assert "V:3.1-r0" in lab.root.read_record("htop")


def keep_newer(system: System) -> None:
    """Nothing brings the stock one back; and it can be taken back."""
    lab = system.lab
    after = system.read_state()
    for line in ("upgrade", "upgrade -a", "fix", "fix linux-lts", "fix -r", "add -u htop"):
        system.apk(line)
        assert system.read_state() == after, line
    assert "linux-lts" not in system.apk("audit --system")
    # The kernel that is on trial goes; what runs now is not the package's any more, and stays.
    assert f"kernel {NEW} was removed from the stick" in system.apk("del linux-lts")
    assert list_complete(lab.esp) == [RUNNING]
    assert (read_env(lab.esp).good, read_env(lab.esp).trial) == (RUNNING, "")
    assert lab.root.read_record("linux-lts") == []
    system.apk("add linux-lts htop")
    check_new_kernel(system)


def check_new_kernel(system: System) -> None:
    """All that an upgrade of the kernel promises."""
    lab, root = system.lab, system.lab.root.path
    record = lab.root.read_record("linux-lts")
    assert "V:6.12.60-r0" in record
    assert "s:ramos" in record
    assert "linux-lts@ramos" in lab.root.read_world()
    assert sorted(list_complete(lab.esp)) == sorted([RUNNING, NEW])
    assert kernels.is_whole(lab.esp, NEW)
    env = read_env(lab.esp)
    assert (env.good, env.trial) == (RUNNING, NEW)
    assert (lab.site.persist / layout.modules_image(NEW)).exists()
    assert (root / f"lib/modules/{RUNNING}/modules.builtin").exists(), "the running kernel's"
    assert not (root / f"lib/modules/{NEW}").exists()
    assert not journal.journal_path(lab.site.persist).exists()


def test_the_kernel_of_the_image_is_the_last_one(system: System) -> None:
    before = system.read_state()
    said = system.apk("del linux-lts", 2)
    assert f"cannot remove kernel: {RUNNING}: it is the last kernel on this stick" in said
    assert system.read_state() == before


@pytest.mark.parametrize(
    "line",
    [
        "del linux-lts",
        "add linux-firmware-x",
        "add needy",
        "upgrade",
        "upgrade -i -q",
        "fix linux-lts",
        "add -t .group needy nano",
    ],
)
def test_apk_by_its_path_leaves_special_packages_alone(system: System, line: str) -> None:
    system.lab.publish(make_kernel(NEW, "6.12.60-r0"))
    before = system.read_state()
    said = system.apk(line, 99, "/sbin/apk")
    assert "belongs to the stick, not into the RAM. Nothing was changed." in said
    assert system.read_state() == before
    assert system.lab.root.read_record("needy") == system.lab.root.read_record("nano") == []
    assert (system.lab.root.path / "boot/vmlinuz-lts").exists()


def test_apk_by_its_path_does_what_is_ordinary(system: System) -> None:
    lab, root = system.lab, system.lab.root.path
    system.apk("add nano", program="/sbin/apk")
    assert (root / "usr/bin/nano").exists()
    system.apk("del nano htop", program="/sbin/apk")
    assert lab.root.read_record("htop") == []
    system.apk("add nano", program="cd /usr; exec ../sbin/apk")
    # The root of a stick that is mounted elsewhere is nobody's RAM.
    (root / "run/ramos/boot").unlink()
    system.apk("add linux-firmware-x", program="/sbin/apk")


def test_special_and_ordinary_packages_come_and_go_together(system: System) -> None:
    lab, root = system.lab, system.lab.root.path
    assert "linux-firmware-x" in system.apk("add needy")
    assert (root / "usr/bin/needy").exists()
    assert not (root / "lib/firmware/x").exists(), "it is in the firmware image"
    assert "linux-firmware-x@ramos" in lab.root.read_world()
    assert system.apk("add linux-firmware-x nano").count("nothing to do") == 1
    assert (root / "usr/bin/nano").exists()
    system.apk("del needy nano linux-firmware-x")
    assert [lab.root.read_record(n) for n in ("needy", "nano", "linux-firmware-x")] == [[], [], []]
    assert not [word for word in lab.root.read_world() if "firmware-x" in word or "n" in word[:1]]
    assert "no such package: linux-edge" in system.apk("add linux-edge nano", 1)
    assert lab.root.read_record("nano") == []


def test_a_broken_package_does_not_hold_up_the_kernel(system: System) -> None:
    """Once a script has failed, every later call of apk ends with status 1."""
    lab = system.lab
    failing = {"post-install": "#!/bin/sh\nexit 3\n"}
    lab.publish(Spec("broken", {"usr/share/broken": b""}, scripts=failing))
    lab.publish(make_kernel(NEW, "6.12.60-r0"))
    system.apk("add broken", 1)
    assert "1 error" in system.apk("add nano", 1)
    said = system.apk("upgrade", 1)
    assert f"kernel {NEW} is tried at the next boot" in said
    check_new_kernel(system)
    system.apk("add linux-firmware-x")
    system.apk("del linux-firmware-x")
    assert lab.root.read_record("linux-firmware-x") == []


def test_fixing_the_kernel_of_the_image_is_done_by_the_engine(system: System) -> None:
    lab, root = system.lab, system.lab.root.path
    (root / "boot/vmlinuz-lts").unlink()
    said = system.apk("fix linux-lts htop")
    assert f"kernel {RUNNING}+2 is tried at the next boot" in said
    assert not (root / "boot/vmlinuz-lts").exists()
    assert "linux-lts@ramos" in lab.root.read_world()
