"""Kernels change on a running stick: a good one stays, a bad one is gone with nobody's help.

Everything is real: the stick behind GRUB and USB, apt, a mirror by HTTP, Debian's own kernels. That
a trial has two tries is shown in GRUB itself (test_menu.py); here a kernel has one for each of its
ways to fail.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.boot.confirm import STRICT_SETTINGS
from ramos.vm.machine import Machine
from tests.labs import kernelmirror
from tests.labs.interrupted import check_recovered, interrupt
from tests.labs.kernelmirror import VERSION, Offer
from tests.labs.trials import set_tries, start_failing
from tests.vm.conftest import USER, Boot, list_open_ports

GIVEN_UP = "RAMOS: the new kernel {} was given up: it did not come up when it was tried"
# The first boot stands still altogether, guard included, the second one only hangs, the third one
# panics; the initramfs does so where it would start the system.
HANGS = """
start_system() {
    if [ ! -e /persist/stood-still ]; then
        : >/persist/stood-still
        kill -STOP "$GUARD"
        echo "TEST: stands still"
    elif [ ! -e /persist/hung ]; then
        : >/persist/hung
        stop_guard
        GUARD_SECONDS=10
        start_guard
        echo "TEST: hangs"
    else
        echo c >/proc/sysrq-trigger
    fi
    sync
    while :; do sleep 1000; done
}
"""


@pytest.fixture
def offer(tmp_path: Path) -> Iterator[Offer]:
    """A mirror that answers while the test runs."""
    with kernelmirror.serve(tmp_path / "mirror") as served:
        yield served


@contextlib.contextmanager
def start(boot: Boot, disk: Path, offer: Offer) -> Iterator[Machine]:
    """A machine with a stick behind GRUB and USB, which knows one mirror."""
    # The watchdog of its chipset restarts it when nobody feeds it, as on most PCs.
    extra = ("-global", "ICH9-LPC.noreboot=off", "-action", "watchdog=reset")
    with boot(disk, firmware="bios", bus="usb", network=True, extra=extra) as machine:
        machine.login(USER)
        assert list_open_ports(machine) == []
        kernelmirror.use(machine, offer.mirror, offer.port)
        yield machine


def restart_into(machine: Machine, kernel: str) -> None:
    machine.serial.send("reboot\n")
    await_start(machine, kernel)


def await_start(machine: Machine, kernel: str) -> None:
    machine.expect(rf"Loading Linux {re.escape(kernel)} \.\.\.")


def await_good(machine: Machine, kernel: str) -> None:
    """The boot is confirmed in the background, soon after the login prompt."""
    runs = "[ -p /run/ramos/guard ] || pgrep -f 'ramos boot confirm' >/dev/null"
    machine.check_shell(f"while {runs}; do sleep 1; done", 240)
    told = json.loads(machine.check_shell("ramos boot --json"))["attempts"]["env"]
    assert (told["good"], told["trial"], told["tries"]) == (kernel, "", 0)
    # Alpine's kernels do not have all of them.
    calls = [f"cat /proc/sys/kernel/{n} 2>&- || echo {v}" for n, v in STRICT_SETTINGS.items()]
    found = machine.check_shell("; ".join(calls)).split()
    assert found == [str(value) for value in STRICT_SETTINGS.values()]


def check_running(machine: Machine, kernel: str) -> None:
    """This kernel runs, and what loads is its own modules image."""
    assert machine.check_shell("uname -r") == kernel
    machine.check_shell("modprobe dummy && grep -q ^dummy /proc/modules && rmmod dummy")
    path = machine.check_shell("modinfo -n dummy")
    assert path.startswith((f"/lib/modules/{kernel}/", f"/usr/lib/modules/{kernel}/"))
    found = machine.check_shell("find /run/ramos/modules -path '*lib/modules/*' -prune")
    assert found.endswith(f"lib/modules/{kernel}")
    assert len(found.splitlines()) == 1


def check_told(machine: Machine, kernel: str) -> None:
    """The user learns which kernel was given up: at login, and whenever he asks."""
    assert GIVEN_UP.format(kernel) in machine.serial.text
    assert f"the new kernel {kernel} was given up" in machine.check_shell("ramos status")
    assert f"kernel {kernel} was given up" in machine.check_shell("ramos boot")
    assert f"kernel {kernel}  given up: it did not come up" in machine.check_shell("ramos pkg list")


def upgrade(machine: Machine, new: str) -> None:
    """Look what there is, and bring it, with progress; by apt alone, as on any Debian."""
    # In the shell that the user's sudo opened, and in a login shell of root.
    for shell in ("sh -c", "env -i sh -l -c"):
        found = machine.check_shell(f"{shell} 'command -v apt; command -v apt-get'")
        assert found == "/usr/local/sbin/apt\n/usr/local/sbin/apt-get"
    told = machine.check_shell("apt update && apt -s upgrade", 300)
    assert f"  linux-image-amd64 {VERSION}\n'apt upgrade' brings them" in told
    assert f"linux-image-{new} (new) -> {VERSION}" in told
    told = machine.check_shell("apt upgrade -y", 300)
    steps = (
        f"fetching linux-image-{new} {VERSION}",
        f"building the initramfs of {new}",
        f"packing the modules of {new}",
        f"writing kernel {new} to the ESP",
        f"kernel {new} is tried at the next boot; if it fails, the old one is back",
        "0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.",
    )
    places = [told.index(step) for step in steps]
    assert places == sorted(places)


def bring_newer(machine: Machine, new: str) -> None:
    """A good kernel is tried, and kept."""
    old = machine.check_shell("uname -r")
    upgrade(machine, new)
    check_running(machine, old)
    restart_into(machine, new)
    machine.login(USER)
    check_running(machine, new)
    await_good(machine, new)
    version = machine.check_shell(f"dpkg-query -W -f '${{Version}}' linux-image-{new}")
    assert version == VERSION


def bring_hanging(machine: Machine, good: str) -> None:
    """A kernel that hangs in every way is given up after its last try."""
    start_failing(machine, HANGS, 3)
    interrupt(machine)
    restart_into(machine, f"{good}+2")
    machine.expect("TEST: stands still")
    await_start(machine, f"{good}+2")
    machine.expect("TEST: hangs")
    machine.expect("did not come up within 10 s: restart")
    await_start(machine, f"{good}+2")
    machine.expect("Kernel panic - not syncing")
    await_start(machine, good)
    machine.login(USER)
    check_running(machine, good)
    check_told(machine, f"{good}+2")
    check_recovered(machine)


def bring_without_usb(machine: Machine, bad: str, good: str) -> None:
    """A kernel that cannot find its stick is given up, and can be taken away."""
    machine.check_shell("ramos pkg add linux-image-cloud-amd64", 300)
    set_tries(machine, 1)
    restart_into(machine, bad)
    machine.expect(r"RAMOS stopped at step 'persist': no UUID=\S+ within 30 s")
    machine.expect("The machine restarts in 10 s")
    await_start(machine, good)
    machine.login(USER)
    assert GIVEN_UP.format(bad) in machine.serial.text
    names = f"linux-image-cloud-amd64 linux-image-{bad}"
    told = machine.check_shell(f"ramos pkg remove {names}")
    assert f"kernel {bad} was removed from the stick" in told
    assert bad not in machine.check_shell("ramos pkg list; ls /persist")


def test_a_newer_kernel_stays_and_bad_ones_go(boot: Boot, disk: Path, offer: Offer) -> None:
    """One machine for all of it, since most of the time goes into starting it."""
    with start(boot, disk, offer) as machine:
        bring_newer(machine, offer.good)
        bring_hanging(machine, offer.good)
        bring_without_usb(machine, offer.bad, offer.good)
