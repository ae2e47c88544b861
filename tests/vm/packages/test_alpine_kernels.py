"""Kernels of the real Alpine change on a running stick, by `apk` and `ramos pkg`, over HTTP.

The newer one is Alpine's own under the next release's name, linux-lts the same under that name
(tests/labs/alpine_kernel.py). One machine for all of it, since most of the time goes into starting
it: a kernel that is cut and kept, another flavour beside it, and one that fails in three ways.
"""

import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ramos.vm.machine import Machine
from tests.labs import alpine_kernel, alpine_mirror, alpine_root, kernelmirror
from tests.labs.alpine_mirror import FIRMWARE_NONE, Mirror
from tests.labs.interrupted import check_recovered, interrupt
from tests.labs.trials import start_failing
from tests.vm.conftest import Boot, come_up
from tests.vm.image.test_alpine import use_mirror
from tests.vm.packages.test_packages import (
    await_good,
    await_start,
    check_running,
    check_told,
    restart_into,
)

OLD, NEW = alpine_kernel.OLD.release, alpine_kernel.NEW.release
VERSION = alpine_kernel.NEW.package_version
LTS = alpine_kernel.LTS.release
MKINITFS = "3.13.0-r9"
FIRMWARE = "linux-firmware-rtl_nic"
NOTICE = "lib/firmware/rtl_nic/NOTICE"
# From where GRUB loads the kernel on, a boot takes at least that long.
CUT_SECONDS = 20.0
# Whoever sits at the console says how the boot is to fail.
FAILS = """
printf 'TEST: how? '
read -r HOW
case $HOW in
blind) WAIT_SECONDS=5; modprobe() { return 1; } ;;
hang) GUARD_SECONDS=10; start_system() { while :; do sleep 1000; done; } ;;
panic) start_system() { echo c >/proc/sysrq-trigger; } ;;
esac
"""


@pytest.fixture(scope="module")
def newer(lab: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Mirror:
    """A newer linux-virt and mkinitfs, linux-lts and firmware, signed as the lab is."""
    folder = tmp_path_factory.mktemp("newer")
    mirror = Mirror(folder / "mirror", lab.key, lab.keys)
    for repository in ("main", "community"):
        mirror.folder(repository).mkdir(parents=True)
    root = alpine_root.provide_root()
    found = alpine_root.list_specs(folder / "packages", root)
    mkinitfs = next(spec for spec in found if spec.name == "mkinitfs")
    alpine_mirror.add_package(mirror, replace(mkinitfs, version=MKINITFS))
    files = {NOTICE: b"a newer one"}
    alpine_mirror.add_package(mirror, replace(FIRMWARE_NONE, name=FIRMWARE, files=files))
    alpine_mirror.add_package(mirror, alpine_kernel.make_kernel(alpine_kernel.NEW))
    shutil.copy(lab.package("linux-lts"), mirror.folder())
    alpine_mirror.write_indexes(mirror)
    return mirror


def upgrade(machine: Machine) -> None:
    """As a user does it; then what must not bring the mirror's package back."""
    status, said = machine.shell("apk del linux-virt")
    assert (status, f"cannot remove kernel: {OLD}: it is the last kernel" in said) == (2, True)
    change = f"{alpine_kernel.OLD.package_version} -> {VERSION}"
    assert change in machine.check_shell("ramos pkg check")
    said = machine.check_shell("apk upgrade", 300)
    assert f"kernel {NEW} is tried at the next boot; if it fails, the old one is back" in said
    machine.check_shell("apk upgrade -a && apk fix && apk fix linux-virt", 300)
    assert "linux-virt@ramos" in machine.check_shell("cat /etc/apk/world").split()
    assert f"kernel {NEW}  on trial" in machine.check_shell("ramos pkg list")
    assert f"mkinitfs-{MKINITFS}" in machine.check_shell("apk list --installed mkinitfs")
    machine.check_shell("test ! -e /boot/initramfs-virt")
    check_running(machine, OLD)


def add_firmware(machine: Machine) -> None:
    """It goes into the image beside the system, and is read from there in the next boot."""
    assert "packing the firmware" in machine.check_shell(f"apk add {FIRMWARE}", 300)
    assert NOTICE not in machine.check_shell(f"apk info -L {FIRMWARE}")


def cut_a_trial(machine: Machine) -> None:
    """The power goes somewhere between GRUB and the end of a boot: it is tried once more."""
    seconds = random.uniform(0, CUT_SECONDS)
    print(f"cut {seconds:.1f} s after GRUB")
    restart_into(machine, NEW)
    time.sleep(seconds)
    machine.qmp.execute("system_reset")
    await_start(machine, NEW)
    come_up(machine)
    check_running(machine, NEW)
    await_good(machine, NEW)
    assert machine.check_shell(f"cat /{NOTICE}") == "a newer one"


def change_flavor(machine: Machine) -> None:
    """linux-lts beside linux-virt, started, and then alone."""
    said = machine.check_shell("ramos pkg add linux-lts", 300)
    assert f"kernel {LTS} is tried at the next boot" in said
    restart_into(machine, LTS)
    come_up(machine)
    check_running(machine, LTS)
    await_good(machine, LTS)
    said = machine.check_shell("ramos pkg remove linux-virt")
    assert f"kernel {NEW} was removed from the stick" in said
    told = machine.check_shell("ramos pkg list; ls /persist; cat /etc/apk/world")
    assert [name for name in (NEW, "linux-virt") if name in told] == []
    status, said = machine.shell("apk del linux-lts")
    assert (status, f"cannot remove kernel: {LTS}" in said) == (2, True)


def fail(machine: Machine) -> None:
    """A kernel that hangs, finds no stick, or panics is given up with nobody's help."""
    start_failing(machine, FAILS, 3)
    interrupt(machine)
    machine.serial.send("reboot\n")
    for way, sign in (
        ("hang", "did not come up within 10 s: restart"),
        ("blind", r"RAMOS stopped at step 'persist': no UUID=\S+ within 5 s"),
        ("panic", "Kernel panic - not syncing"),
    ):
        await_start(machine, f"{LTS}+2")
        machine.expect("TEST: how")
        machine.serial.send(f"{way}\n")
        machine.expect(sign)
    await_start(machine, LTS)
    come_up(machine)
    check_running(machine, LTS)
    check_told(machine, f"{LTS}+2")
    check_recovered(machine)


def test_alpines_kernels_come_and_go(alpine_disk: Path, newer: Mirror, boot: Boot) -> None:
    with (
        kernelmirror.serve_folder(newer.path) as port,
        boot(alpine_disk, firmware="bios", bus="usb", network=True) as machine,
    ):
        come_up(machine)
        use_mirror(machine, port)
        upgrade(machine)
        add_firmware(machine)
        cut_a_trial(machine)
        change_flavor(machine)
        fail(machine)
