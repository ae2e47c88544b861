"""The real Alpine on a stick that is encrypted, or pulled out: musl, BusyBox and OpenRC meet it."""

import time
from pathlib import Path

import pytest

from ramos.vm.machine import Machine, make_overlay
from tests.labs import screen
from tests.labs.alpine_mirror import Mirror
from tests.vm.boot.test_boot import await_init, read_boot
from tests.vm.conftest import USER, Boot, build_alpine, come_up

PASSPHRASE = "correct horse"
# The machine's own keyboard loses keys that come faster.
KEY_SECONDS = 0.2
WAIT = "[save]\nshutdown_wait_seconds = 20\n"


@pytest.fixture(scope="module")
def encrypted_image(
    lab: Mirror,
    alpine_image: Path,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An encrypted image; `alpine_image` has filled the builder's cache."""
    folder = tmp_path_factory.mktemp("encrypted")
    secret, output = folder / "secret", folder / "encrypted.img"
    secret.write_text(PASSPHRASE)
    build_alpine(lab, output, "--encrypt", "--passphrase-file", secret, "--console", "tty0")
    return output


@pytest.fixture
def encrypted(encrypted_image: Path, tmp_path: Path) -> Path:
    """A stick of one test with it."""
    return make_overlay(encrypted_image, "raw", tmp_path / "encrypted.qcow2")


def unlock(machine: Machine, passphrase: str) -> None:
    machine.expect("Passphrase for")
    machine.serial.send(f"{passphrase}\n")


def type_keys(machine: Machine, text: str) -> None:
    """On the keyboard."""
    for letter in f"{text}\n":
        key = {" ": "spc", "\n": "ret"}.get(letter, letter)
        assert machine.qmp.run_monitor(f"sendkey {key}") == ""
        time.sleep(KEY_SECONDS)


def test_alpine_asks_for_a_passphrase_on_the_screen(
    encrypted: Path, boot: Boot, tmp_path: Path
) -> None:
    """Under UEFI, where Alpine's kernel has no screen before its modules are loaded."""
    with boot(encrypted, firmware="uefi", bus="usb") as machine:
        question = machine.expect(r"Passphrase for \S+ \(1 of 3\):")[0]
        screen.await_text(machine, tmp_path, question)
        type_keys(machine, "wrong")
        screen.await_text(machine, tmp_path, "That did not open it.")
        type_keys(machine, PASSPHRASE)
        assert await_init(machine) == ("default", 1)


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
