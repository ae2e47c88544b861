"""The whole path: firmware, GRUB, init, login; the three entries; what is saved; what is broken.

Few boots, much asked of each. A boot that only shows which way it goes ends at init's last line.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.image.partitions import Identifiers
from ramos.vm.machine import Machine, make_overlay, start_machine
from ramos.vm.qemu import VmPlan
from tests.vm.conftest import USER, Boot, give_identity, list_open_ports

LAYERS = "/persist/upperfs/layers"
# One worker, so that the stick with two saves is made once.
SAVED = pytest.mark.xdist_group("saved")
HANDED_OVER = r"RAMOS: (\w+), generation (\d+), kernel (\S+)"


def read_boot(machine: Machine) -> dict[str, str]:
    """The boot as the running system knows it."""
    lines = machine.check_shell("cat /run/ramos/boot").splitlines()
    return dict(line.split("=", 1) for line in lines)


def await_init(machine: Machine) -> tuple[str, int]:
    """The mode and the generation that init hands over to the system."""
    match = machine.expect(HANDED_OVER)
    return match[1], int(match[2])


@pytest.fixture(scope="module")
def saved(image: Path, has_kvm: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stick with two saves: `first` holds in generation 2, `second` as well in 3."""
    disk = tmp_path_factory.mktemp("saved") / "saved.qcow2"
    make_overlay(image, "raw", disk)
    plan = VmPlan(disk, "qcow2", firmware="direct", memory_mib=768, flush=False)
    with start_machine(plan, snapshot=False, kvm=has_kvm) as machine:
        machine.login(USER)
        machine.check_shell("echo one >/etc/first; rm /etc/issue; mkdir /opt/dir")
        machine.check_shell("ramos commit -m first")
        machine.check_shell("echo two >/etc/second; setfattr -n user.a -v b /etc/second || :")
        machine.check_shell("ramos commit -m second")
        machine.check_shell("sync")
        machine.power_cut()
    return disk


@contextlib.contextmanager
def boot_saved(boot: Boot, saved: Path, tmp_path: Path, *words: str) -> Iterator[Machine]:
    """Boot a copy of the saved stick directly, up to a shell."""
    disk = make_overlay(saved, "qcow2", tmp_path / "copy.qcow2")
    with boot(disk, parameters=words) as machine:
        machine.login(USER)
        yield machine


@pytest.fixture
def written(image: Path, tmp_path: Path) -> tuple[Path, Identifiers]:
    """A stick as `ramos image write` makes it: the image with identities of its own."""
    raw = tmp_path / "stick.img"
    subprocess.run(["cp", "--sparse=always", image, raw], check=True)
    fresh = give_identity(raw)
    return make_overlay(raw, "raw", tmp_path / "stick.qcow2"), fresh


def test_uefi_usb_and_all_entries(boot: Boot, written: tuple[Path, Identifiers]) -> None:
    disk, fresh = written
    with boot(disk, firmware="uefi", bus="usb") as machine:
        machine.pick_entry("default")
        assert await_init(machine) == ("default", 1)
        machine.login(USER)
        assert f"login: {USER} (automatic login)" in machine.serial.text
        greetings = machine.serial.text.count("RAMOS, mode default: generation 1, saved ")
        assert greetings == 1, "a login greets once"
        assert "'ramos commit' saves" in machine.serial.text
        machine.check_shell("test -s /usr/share/bash-completion/completions/ramos")
        seen = read_boot(machine)
        assert (seen["mode"], seen["generation"], seen["upper"]) == ("default", "1", "zram")
        assert seen["persist"].startswith("/dev/sd")
        assert machine.check_shell("findmnt -no UUID /persist") == str(fresh.persist)
        machine.check_shell("echo kept >/etc/kept; ramos commit -m kept")
        machine.power_cut()
    for entry, wanted in (("backup", 1), ("clean", 0), ("default", 2)):
        with boot(disk, firmware="uefi", bus="usb") as machine:
            machine.expect(r"RAMOS +generation 2, .*: kept")
            machine.pick_entry(entry)
            assert await_init(machine) == (entry, wanted)
            if entry == "default":
                machine.login(USER)
                assert machine.check_shell("cat /etc/kept") == "kept"


def test_bios_systemd_virtio(boot: Boot, systemd_image: Path, tmp_path: Path) -> None:
    disk = make_overlay(systemd_image, "raw", tmp_path / "stick.qcow2")
    with boot(disk, firmware="bios", bus="virtio", network=True) as machine:
        machine.pick_entry("default")
        machine.login(USER)
        assert machine.check_shell("cat /proc/1/comm") == "systemd"
        assert machine.check_shell("findmnt -no FSTYPE /") == "overlay"
        machine.shell("systemctl is-system-running --wait")
        assert machine.check_shell("systemctl list-units --state=failed --plain --no-legend") == ""
        machine.check_shell("networkctl --no-legend list | grep -q routable")
        assert list_open_ports(machine) == []
        # Without a terminal: sudo would read what is typed to this shell.
        as_user = f"setsid -w runuser -u {USER} -- ramos"
        told = machine.check_shell(f"{as_user} show </dev/null")
        assert "generation 1, made" in told, "what needs root runs again by sudo"
        machine.check_shell("echo kept >/etc/kept; touch /root/private")
        for words in ("status", "diff", "log", "usage", "health"):
            told = machine.check_shell(f"{as_user} {words} </dev/null")
            assert "private" not in told, "reading takes no root, and shows no name of root's"
        save_by_itself(machine)
        for words in ("status", "diff", "log", "usage", "health"):
            machine.check_shell(f"{as_user} {words} </dev/null")
        machine.power_off()
    with boot(disk, firmware="direct", bus="virtio") as machine:
        mode, number = await_init(machine)
        assert (mode, number in (2, 3)) == ("default", True), "by itself, and on the way down"
        machine.login(USER)
        assert machine.check_shell("cat /etc/kept") == "kept"


def save_by_itself(machine: Machine) -> None:
    """ramosd does, with what its service lets it do."""
    machine.check_shell("mkdir -p /etc/ramos/conf.d")
    machine.write_file("/etc/ramos/conf.d/every.toml", b'[save]\nevery = "1min"\n')
    machine.check_shell("systemctl reload ramosd")
    machine.check_shell("until ramos log | grep -q ' timer '; do sleep 2; done", 180)


@SAVED
@pytest.mark.parametrize(
    ("words", "restore", "upper"),
    [
        (("ramos.restore=ram",), "ram", "zram"),
        (("ramos.restore=mount", "ramos.verify=full"), "mount", "zram"),
        (("ramos.restore=unpack", "ramos.upper=tmpfs"), "unpack", "tmpfs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_restore(
    boot: Boot, saved: Path, tmp_path: Path, words: tuple[str, ...], restore: str, upper: str
) -> None:
    with boot_saved(boot, saved, tmp_path, *words) as machine:
        seen = read_boot(machine)
        assert (seen["generation"], seen["restore"], seen["upper"]) == ("3", restore, upper)
        assert machine.check_shell("cat /etc/first /etc/second") == "one\ntwo"
        assert machine.check_shell("test ! -e /etc/issue; test -d /opt/dir; echo $?") == "0"


@SAVED
def test_toram_without_the_stick(boot: Boot, saved: Path, tmp_path: Path) -> None:
    with boot_saved(boot, saved, tmp_path, "ramos.toram", "ramos.upper=tmpfs") as machine:
        assert read_boot(machine)["toram"] == "now"
        assert "was pulled out" not in machine.serial.text
        machine.unplug()
        # Everything is read, also what nobody has read since the boot.
        machine.check_shell("echo 3 >/proc/sys/vm/drop_caches; test ! -e /dev/sda")
        machine.check_shell("find /usr/bin /etc -xdev -type f -exec cat {} + | wc -c")
        assert machine.check_shell("cat /etc/second") == "two"
        status, output = machine.shell("ramos commit")
        assert status == 1
        assert "stick" in output


@SAVED
def test_damage_is_stepped_over_and_told(boot: Boot, saved: Path, tmp_path: Path) -> None:
    with boot_saved(boot, saved, tmp_path) as machine:
        layer = machine.check_shell(
            "grep -o 'upperfs/layers/.*squashfs' /persist/upperfs/generations/000003 | tail -n 1"
        )
        # The same size and another content: only a digest can tell.
        machine.check_shell(f"cd /persist; size=$(stat -c %s {layer}); rm {layer}")
        machine.check_shell(f"head -c $size /dev/urandom >{layer}; sync")
        machine.qmp.execute("system_reset")
        assert await_init(machine) == ("default", 2)
        machine.login(USER)
        assert "RAMOS skipped generation 000003" in machine.serial.text
        assert machine.check_shell("cat /etc/first; test ! -e /etc/second") == "one"
        machine.check_shell("mv /persist/rootfs.squashfs /persist/elsewhere; sync")
        machine.qmp.execute("system_reset")
        machine.expect(r"RAMOS stopped at step 'base': rootfs.squashfs is missing on /dev/sda2")
        machine.expect(r"reboot -f +starts over")
        machine.open_shell()
        assert machine.check_shell("cat /run/ramos/boot.log | grep -c shell:") == "1"
