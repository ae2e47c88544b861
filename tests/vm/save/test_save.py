"""Saves in a real system: what is sealed, what a boot finds after them, and a rollback.

The host of the tests may have no fs-verity; the guest's kernel has.
"""

from pathlib import Path

from ramos.vm.machine import Machine
from tests.vm.conftest import USER, Boot, ask_seals

# One bit of a file, through the device: below the file system, as worn flash does it.
FLIP = """
import os, subprocess, sys
path, device = sys.argv[1:]
lines = subprocess.check_output(["filefrag", "-b4096", "-v", path], text=True).splitlines()
block = int(lines[3].split()[3].rstrip("."))
disk = os.open(device, os.O_RDWR | os.O_SYNC)
data = bytearray(os.pread(disk, 4096, block * 4096))
data[2048] ^= 1
os.pwrite(disk, data, block * 4096)
"""


def start_over(machine: Machine) -> str:
    """At once, with no save on the way down; the generation that runs then."""
    machine.serial.send("reboot -f\n")
    machine.login(USER)
    return machine.check_shell("sed -n 's/^generation=//p' /run/ramos/boot")


def flip_bit(machine: Machine, path: str) -> None:
    """In the first block of a file, behind the back of the file system."""
    machine.write_file("/tmp/flip.py", FLIP.encode())
    device = machine.check_shell("sed -n 's/^persist=//p' /run/ramos/boot")
    machine.check_shell(f"python3 /tmp/flip.py {path} {device}")


def test_saves_are_sealed_checked_and_rolled_back(boot: Boot, disk: Path) -> None:
    with boot(disk, bus="usb") as machine:
        machine.login(USER)
        machine.check_shell("echo one >/etc/one; ramos commit -m one")
        machine.check_shell("head -c 300K /dev/urandom >/etc/two; ramos commit -m two")
        assert "unsealed" not in ask_seals(machine, 3)["layer"]
        assert start_over(machine) == "3"
        assert machine.check_shell("cat /etc/one; stat -c %s /etc/two") == "one\n307200"

        layer = machine.check_shell("ramos show 3 --json | grep -o 'upperfs/layers/.*squashfs'")
        flip_bit(machine, f"/persist/{layer.splitlines()[-1]}")
        assert start_over(machine) == "2"
        assert "RAMOS skipped generation 000003" in machine.serial.text
        status, text = machine.shell("ramos verify --all")
        assert (status, layer.splitlines()[-1] in text) == (3, True), text

        machine.check_shell("ramos rollback 1")
        assert machine.check_shell("cat /etc/one") == "one", "the running system stays as it is"
        assert start_over(machine) == "4"
        machine.check_shell("test ! -e /etc/one")
