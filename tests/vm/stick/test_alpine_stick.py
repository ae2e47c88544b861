"""The real Alpine on a stick that is encrypted, or pulled out: musl, BusyBox and OpenRC meet it."""

from pathlib import Path

import pytest

from ramos.vm.machine import Machine, make_overlay
from tests.labs.alpine_mirror import Mirror
from tests.vm.boot.test_boot import await_init, read_boot
from tests.vm.conftest import USER, Boot, build_alpine, come_up

PASSPHRASE = "correct horse"
WAIT = "[save]\nshutdown_wait_seconds = 20\n"


@pytest.fixture
def encrypted(lab: Mirror, alpine_image: Path, tmp_path: Path) -> Path:  # noqa: ARG001
    """An encrypted stick; `alpine_image` has filled the builder's cache."""
    secret, output = tmp_path / "secret", tmp_path / "encrypted.img"
    secret.write_text(PASSPHRASE)
    build_alpine(lab, output, "--encrypt", "--passphrase-file", secret)
    return make_overlay(output, "raw", tmp_path / "encrypted.qcow2")


def unlock(machine: Machine, passphrase: str) -> None:
    machine.expect("Passphrase for")
    machine.serial.send(f"{passphrase}\n")


def test_alpine_opens_an_encrypted_stick_and_saves_a_tmpfs(encrypted: Path, boot: Boot) -> None:
    with boot(encrypted, bus="usb", parameters=("ramos.upper=tmpfs",)) as machine:
        unlock(machine, "wrong")
        machine.expect("did not open it")
        unlock(machine, PASSPHRASE)
        come_up(machine)
        seen = read_boot(machine)
        assert (seen["luks"], seen["upper"]) == ("1", "tmpfs")
        machine.check_shell(f"echo kept >/home/{USER}/note; setfattr -n user.a -v b /etc/motd || :")
        machine.serial.send("reboot\n")
        machine.expect("RAMOS: saved as generation 2")
        unlock(machine, PASSPHRASE)
        come_up(machine)
        assert machine.check_shell(f"cat /home/{USER}/note") == "kept"


def test_alpine_goes_on_without_its_stick_and_saves_when_it_is_back(
    alpine_disk: Path, boot: Boot
) -> None:
    """Its images go to RAM by themselves, which takes a machine with a GiB."""
    with boot(alpine_disk, bus="usb", memory_mib=1024) as machine:
        come_up(machine)
        assert read_boot(machine)["toram"] == "later"
        machine.check_shell(
            'until grep -q \'"toram": "done\' /run/ramos/ramosd.json; do sleep 1; done', 400
        )
        assert "RAMOS: the system is in RAM now as a whole" in machine.serial.text
        machine.check_shell(f"printf '{WAIT}' >/etc/ramos/ramos.toml; rc-service ramosd reload")
        machine.unplug()
        machine.expect("the stick was pulled out", 120)
        # Everything is read, also what nobody has read since the boot.
        machine.check_shell("echo 3 >/proc/sys/vm/drop_caches; test ! -e /dev/sda")
        machine.check_shell("find /bin /usr/bin /etc -xdev -type f -exec cat {} + | wc -c")
        machine.check_shell(f"echo kept >/home/{USER}/note")
        machine.serial.send("reboot\n")
        machine.expect("THE SAVE FAILED.*it was pulled out", 240)
        machine.expect("trying once more in", 60)
        machine.replug()
        machine.expect("RAMOS: saved as generation 2", 240)
        assert await_init(machine) == ("default", 2)
