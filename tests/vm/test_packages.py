"""Kernels change on a running stick: a good one stays, a bad one is gone with nobody's help.

Everything is real: the stick behind GRUB and USB, apt, a mirror by HTTP, Debian's own kernels. That
a trial has two tries is shown in GRUB itself (test_menu.py); here each bad kernel has one left.
"""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.vm_machine import Machine
from tests.vm import kernelmirror
from tests.vm.conftest import USER, Boot
from tests.vm.kernelmirror import VERSION, Offer

SOURCE = "Types: deb\nURIs: http://10.0.2.2:{}\nSuites: ./\nSigned-By: /etc/apt/test.gpg\n"
GIVEN_UP = "RAMOS: the new kernel {} was given up: it did not come up when it was tried"
LAST_TRY = """
from dataclasses import replace
from ramos import esp
from ramos.running_site import find_site
with find_site().open_esp(True) as place:
    esp.write_env(place, replace(esp.read_env(place), tries=1))
"""
# The running kernel once more, with an initramfs that holds nothing.
PANICS = """
from pathlib import Path
from ramos import kernels, transaction
from ramos.base_images import find_modules
from ramos.running_site import find_site
site = find_site()
vmlinuz, nothing = Path("/run/vmlinuz"), Path("/run/nothing")
nothing.write_bytes(bytes(512))
with site.open_esp(True) as place:
    vmlinuz.write_bytes((place / "kernels" / site.running / "vmlinuz").read_bytes())
    modules = find_modules(site.persist, site.running)
    files = kernels.KernelFiles(site.running, vmlinuz, nothing, modules)
    kernels.write_kernel(place, f"{site.running}+2", files)
    transaction.start_trials(place, (f"{site.running}+2",))
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


def await_good(machine: Machine, kernel: str) -> None:
    """The boot is confirmed in the background, soon after the login prompt."""
    deadline = time.monotonic() + 120
    while True:
        told = json.loads(machine.check_shell("ramos boot --json"))["attempts"]["env"]
        if told["good"] == kernel:
            assert (told["trial"], told["tries"]) == ("", 0)
            return
        assert time.monotonic() < deadline, told
        time.sleep(1)


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


def test_a_newer_kernel_is_tried_and_kept(boot: Boot, disk: Path, offer: Offer) -> None:
    with start(boot, disk, offer) as machine:
        old, new = machine.check_shell("uname -r"), offer.good
        upgrade(machine, new)
        check_running(machine, old)
        restart_into(machine, new)
        machine.login(USER)
        check_running(machine, new)
        await_good(machine, new)
        version = machine.check_shell(f"dpkg-query -W -f '${{Version}}' linux-image-{new}")
        assert version == VERSION


def test_a_kernel_that_panics_is_given_up(boot: Boot, disk: Path) -> None:
    with boot(disk, firmware="bios", bus="usb") as machine:
        machine.login(USER)
        good = machine.check_shell("uname -r")
        run_python(machine, PANICS)
        run_python(machine, LAST_TRY)
        restart_into(machine, f"{good}+2")
        machine.expect("Kernel panic - not syncing")
        await_start(machine, good)
        machine.login(USER)
        check_running(machine, good)
        check_told(machine, f"{good}+2")


def test_a_kernel_that_cannot_find_its_stick_is_given_up(
    boot: Boot, disk: Path, offer: Offer
) -> None:
    with start(boot, disk, offer) as machine:
        old, bad = machine.check_shell("uname -r"), offer.bad
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
