"""A new kernel that does not come up: the old one is back with nobody's help.

Everything is real: the stick behind GRUB and USB, apt, a mirror by HTTP, Debian's own kernels. That
a trial has two tries is shown in GRUB itself (test_menu.py); here the bad kernel has one left.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.vm_machine import Machine
from tests.vm import kernelmirror
from tests.vm.conftest import USER, Boot
from tests.vm.kernelmirror import Offer

SOURCE = "Types: deb\nURIs: http://10.0.2.2:{}\nSuites: ./\nSigned-By: /etc/apt/test.gpg\n"
GIVEN_UP = "RAMOS: the new kernel {} was given up: it did not come up when it was tried"
LAST_TRY = """
from dataclasses import replace
from ramos import esp
from ramos.running_site import find_site
with find_site().open_esp(True) as place:
    esp.write_env(place, replace(esp.read_env(place), tries=1))
"""


@pytest.fixture
def offer(tmp_path: Path) -> Iterator[Offer]:
    """A mirror that answers while the test runs."""
    with kernelmirror.serve(tmp_path / "mirror") as served:
        yield served


@contextlib.contextmanager
def start(boot: Boot, disk: Path, offer: Offer) -> Iterator[Machine]:
    """A machine with a stick behind GRUB and USB, which knows one mirror."""
    with boot(disk, firmware="bios", bus="usb", network=True) as machine:
        machine.login(USER)
        machine.write_file("/etc/apt/test.gpg", offer.mirror.keyring.read_bytes())
        machine.check_shell("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
        source = SOURCE.format(offer.port).encode()
        machine.write_file("/etc/apt/sources.list.d/test.sources", source)
        yield machine


def run_python(machine: Machine, program: str) -> None:
    # Not in /run: its folder ramos would be taken for the package.
    machine.write_file("/tmp/program.py", program.encode())
    machine.check_shell("PYTHONPATH=/usr/lib/ramos python3 /tmp/program.py")


def restart_into(machine: Machine, kernel: str) -> None:
    machine.serial.send("reboot\n")
    await_start(machine, kernel)


def await_start(machine: Machine, kernel: str) -> None:
    machine.expect(rf"Loading Linux {re.escape(kernel)} \.\.\.")


def check_running(machine: Machine, kernel: str) -> None:
    """This kernel runs, and what loads is its own modules image."""
    assert machine.check_shell("uname -r") == kernel
    machine.check_shell("modprobe dummy && grep -q ^dummy /proc/modules && rmmod dummy")
    path = machine.check_shell("modinfo -n dummy")
    assert path.startswith((f"/lib/modules/{kernel}/", f"/usr/lib/modules/{kernel}/"))
    assert machine.check_shell("ls /run/ramos/modules/usr/lib/modules") == kernel


def check_told(machine: Machine, kernel: str) -> None:
    """The user learns which kernel was given up: at login, and whenever he asks."""
    assert GIVEN_UP.format(kernel) in machine.serial.text
    assert f"the new kernel {kernel} was given up" in machine.check_shell("ramos status")
    assert f"kernel {kernel} was given up" in machine.check_shell("ramos boot")
    assert f"kernel {kernel}  given up: it did not come up" in machine.check_shell("ramos pkg list")


def test_a_kernel_that_cannot_find_its_stick_is_given_up(
    boot: Boot, disk: Path, offer: Offer
) -> None:
    with start(boot, disk, offer) as machine:
        old, bad = machine.check_shell("uname -r"), offer.kernel
        machine.check_shell("ramos pkg add linux-image-cloud-amd64", 300)
        run_python(machine, LAST_TRY)
        restart_into(machine, bad)
        machine.expect(r"RAMOS stopped at step 'persist': no UUID=\S+ within 30 s")
        machine.expect("The machine restarts in 10 s")
        await_start(machine, old)
        machine.login(USER)
        check_running(machine, old)
        check_told(machine, bad)
        names = f"linux-image-cloud-amd64 linux-image-{bad}"
        told = machine.check_shell(f"ramos pkg remove {names}")
        assert f"kernel {bad} was removed from the stick" in told
        assert bad not in machine.check_shell("ramos pkg list; ls /persist")
