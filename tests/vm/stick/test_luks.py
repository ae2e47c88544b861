"""An encrypted stick in a machine: passphrases, growing, keys, and a disk that lies."""

import subprocess
import sys
from pathlib import Path

import pytest

from ramos.vm import qemu
from ramos.vm.machine import Machine, make_overlay, start_machine
from tests.vm.conftest import BUILD, give_identity

PASSPHRASE = "correct horse"
SECOND = "battery staple"
GROWN_BYTES = 3 << 30
# A disk of the kernel's own that claims 8 GB and wraps around after 64 MiB.
FALSE_DISK = "modprobe scsi_debug virtual_gb=8 dev_size_mb=64 removable=1 add_host=1"
# Find that disk, and probe it as the writer does before it trusts a disk.
PROBE = """
cat >/tmp/probe.py <<'END'
import sys
sys.path.insert(0, "/usr/lib/ramos")
from ramos.stick import disks
from ramos.linux import run
from ramos.errors import RamosError
from ramos.image import write
text = run.run(disks.LSBLK).text
(disk,) = [d for d in disks.parse_disks(text) if "scsi_debug" in d.model]
print("refused:", disks.list_refusals(disk, allow_fixed=False))
try:
    with write.hold_target(disk) as target:
        write.check_capacity(target, lambda _: None)
except RamosError as error:
    print(error)
END
python3 /tmp/probe.py
"""


@pytest.fixture(scope="module")
def encrypted(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """An encrypted image, as written to a stick that is larger; `image` has filled the cache."""
    folder = tmp_path_factory.mktemp("encrypted")
    secret, output = folder / "secret", folder / "encrypted.img"
    secret.write_text(PASSPHRASE)
    argv = [sys.executable, "-m", "ramos", *BUILD, "--init", "openrc", "--console", "ttyS0"]
    argv += ["--encrypt", "--passphrase-file", str(secret), "--output", str(output)]
    subprocess.run(argv, check=True, capture_output=True)
    give_identity(output)
    overlay = make_overlay(output, "raw", folder / "stick.qcow2")
    subprocess.run(["qemu-img", "resize", "-q", str(overlay), str(GROWN_BYTES)], check=True)
    return overlay


def start(stick: Path) -> qemu.VmPlan:
    return qemu.VmPlan(stick, image_format="qcow2", firmware="direct", bus="virtio", flush=False)


def unlock(machine: Machine, passphrase: str) -> None:
    machine.expect("Passphrase for")
    machine.serial.send(f"{passphrase}\n")
    machine.login("user")


def test_an_encrypted_stick_from_the_first_boot_on(encrypted: Path) -> None:
    plan = start(encrypted)
    with start_machine(plan, snapshot=False) as machine:
        for _ in range(3):
            machine.expect("Passphrase for")
            machine.serial.send("wrong\n")
            machine.expect("did not open it")
        machine.expect("could not be unlocked in 3 tries")
    with start_machine(plan, snapshot=False) as machine:
        unlock(machine, PASSPHRASE)
        check_growing_and_keys(machine)
        check_false_disk(machine)
        machine.check_shell("echo kept >/etc/kept && ramos commit -m first")
        machine.power_cut()
    with start_machine(plan, snapshot=False) as machine:
        unlock(machine, SECOND)
        assert machine.check_shell("cat /etc/kept") == "kept"


def check_growing_and_keys(machine: Machine) -> None:
    """Persist fills the stick while the system runs, and a second passphrase opens it."""
    before = int(machine.check_shell("df -B1 --output=size /persist | tail -1"))
    machine.check_shell(f"printf '{PASSPHRASE}' >/run/old; printf '{SECOND}' >/run/new")
    machine.check_shell("ramos grow --passphrase-file /run/old")
    after = int(machine.check_shell("df -B1 --output=size /persist | tail -1"))
    assert after > before + (GROWN_BYTES >> 1)
    files = "--passphrase-file /run/old --new-passphrase-file /run/new"
    assert "2 keys" in machine.check_shell(f"ramos key add {files}")


def check_false_disk(machine: Machine) -> None:
    """A disk that wraps around is found before it is trusted."""
    machine.check_shell(FALSE_DISK)
    said = machine.check_shell(PROBE)
    assert "refused: ()" in said
    assert "cannot trust" in said
    assert "is gone" in said
