"""Every way down saves, and every way down ends: also with a stick that is full, stalls or is gone.

Few boots, each used for many things: a boot is what costs.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from ramos.shutdown.order import MERGE_SECONDS
from ramos.vm.machine import Machine, make_overlay
from tests.labs.interrupted import check_recovered, interrupt
from tests.vm.conftest import USER, Boot

# A restart ends the machine: what comes next is started anew.
ONE_BOOT = ("-no-reboot",)
SPARE_BYTES = 128 << 20
LIMITS = "[save]\nshutdown_wait_seconds = 5\nshutdown_stall_seconds = 8\n"
# What kexec-tools would do.
LOAD_KERNEL = """
mount -o ro LABEL=RAMOS-ESP /mnt
cat >/run/load.py <<'END'
import ctypes, glob, os
folder = glob.glob("/mnt/kernels/*")[0]
files = [os.open(f"{folder}/{name}", os.O_RDONLY) for name in ("vmlinuz", "initramfs")]
line = open("/proc/cmdline", "rb").read().strip() + bytes(1)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(320, *files, len(line), line, 0) == 0, os.strerror(ctypes.get_errno())
END
python3 /run/load.py && umount /mnt && grep -q 1 /sys/kernel/kexec_loaded
"""


def await_settled(machine: Machine) -> None:
    """The boot is over, and ramosd at work."""
    machine.login(USER)
    machine.check_shell("until grep -qs present /run/ramos/ramosd.json; do sleep 1; done")


def go_down(machine: Machine, command: str) -> None:
    """Write something new, and have it saved on the way."""
    machine.check_shell(f"echo {command} >>/root/marker")
    machine.serial.send(f"{command}\n")
    machine.expect(r"RAMOS: saved as generation \d+", 180)


def test_systemd_ends_with_a_save_or_says_why_not(
    boot: Boot, systemd_image: Path, tmp_path: Path
) -> None:
    disk = make_overlay(systemd_image, "raw", tmp_path / "stick.qcow2")
    with boot(disk, bus="usb", extra=ONE_BOOT) as machine:
        await_settled(machine)
        machine.check_shell("systemctl is-active ramosd ramos-save")
        interrupt(machine)
        go_down(machine, "reboot")
        machine.await_end()
    with boot(disk, bus="usb", extra=ONE_BOOT) as machine:
        await_settled(machine)
        check_recovered(machine)
        machine.check_shell(LOAD_KERNEL)
        go_down(machine, "systemctl kexec")
        await_settled(machine)
        go_down(machine, "halt")
        machine.expect("System halted", 60 + MERGE_SECONDS)
    with boot(disk, bus="usb") as machine:
        await_settled(machine)
        found = machine.check_shell("cat /root/marker").splitlines()
        assert found == ["reboot", "systemctl kexec", "halt"]
        machine.check_shell(f"printf '{LIMITS}' >/etc/ramos/ramos.toml; systemctl reload ramosd")
        pull_the_stick(machine)
        machine.qmp.execute("system_powerdown")
        machine.expect("THE SAVE FAILED.*it was pulled out", 120)
        machine.expect("trying once more in 5 s", 60)
        machine.expect("gave up, for nobody answered", 60)
        machine.await_end()


def pull_the_stick(machine: Machine) -> None:
    """For good, once what is needed without it is in RAM."""
    machine.check_shell("until [ -e /run/ramos/kept ]; do sleep 1; done")
    machine.unplug()
    machine.expect("the stick was pulled out", 60)


def throttle(machine: Machine, bytes_per_second: int) -> None:
    """Let the stick take for ever over each request (0: no longer)."""
    found: list[dict[str, Any]] = machine.qmp.execute("query-block")
    names = [d["qdev"] for d in found if d.get("inserted", {}).get("node-name") == "disk"]
    limits = {"bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0}
    machine.qmp.execute("block_set_io_throttle", id=names[0], bps=bytes_per_second, **limits)


def attach_disk(path: Path) -> tuple[str, ...]:
    """Another disk to save to, as words for QEMU."""
    with path.open("wb") as file:
        file.truncate(SPARE_BYTES)
    call("mke2fs", "-q", "-t", "ext4", path)
    drive = f"driver=file,node-name=spare,filename={path}"
    return ("-blockdev", drive, "-device", "virtio-blk-pci,drive=spare")


def save_elsewhere(machine: Machine) -> None:
    """The talk at a failed save, with somebody at the console."""
    machine.expect("trying once more in", 60)
    machine.serial.send("s")
    machine.expect(r"\[1\] /mnt", 60)
    machine.serial.send("1")
    machine.expect(r"saved to (/mnt/ramos-\S+\.squashfs); bring it back with", 120)


def stall_the_save(machine: Machine) -> None:
    """The stick stops to answer in the middle of the save.

    The kernel must not lose patience first (30 s): QEMU stands still as a whole when a request that
    it holds back is taken back.
    """
    machine.check_shell("for f in /sys/block/sd*/device/timeout; do echo 600 >$f; done")
    machine.check_shell("head -c 60M /dev/urandom >/root/large")
    machine.serial.send("poweroff\n")
    machine.expect("RAMOS: saving .* (writing|collecting)", 120)
    throttle(machine, 1)
    machine.expect("THE SAVE FAILED.*no progress for 8 s", 120)
    machine.expect("THE SAVE FAILED.*no progress for 8 s", 120)
    machine.expect("gave up, for nobody answered", 60)


def read_saved(spare: Path, path: str) -> str:
    """A file in the squashfs that was saved to the other disk."""
    listing = call("debugfs", "-R", "ls -p /", spare)
    (name,) = re.findall(r"ramos-[0-9-]+\.squashfs", listing)
    call("debugfs", "-R", f"dump /{name} {spare}.squashfs", spare)
    return call("unsquashfs", "-cat", f"{spare}.squashfs", path)


def call(*argv: object) -> str:
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=True).stdout


def stall_for_a_while(machine: Machine) -> None:
    machine.check_shell(f"printf '{LIMITS}' >/etc/ramos/ramos.toml; ramos commit")
    stall_the_save(machine)
    throttle(machine, 0)  # in time for the record


def fill_the_stick(machine: Machine) -> None:
    machine.check_shell("until grep 'gave up' /run/ramos/motd; do sleep 1; done")
    last = json.loads(machine.check_shell("cat /persist/log/last-shutdown.json"))
    assert (last["result"], "no progress" in last["error"]) == ("failed", True)
    assert "no progress" in machine.check_shell("ramos health"), "as the login says"
    machine.check_shell("! test -e /root/large; mount /dev/vda /mnt")
    machine.check_shell("echo elsewhere >/root/marker")
    machine.shell("head -c 4G /dev/zero >/persist/user/filler")
    machine.serial.send("reboot\n")
    machine.expect("THE SAVE FAILED", 120)
    save_elsewhere(machine)


def import_and_come_back(machine: Machine) -> None:
    """What was saved elsewhere comes back; and so does the stick, in the middle of the way down."""
    machine.check_shell("until grep 'bring it back' /run/ramos/motd; do sleep 1; done")
    machine.check_shell("! test -e /root/marker; rm /persist/user/filler; mount /dev/vda /mnt")
    machine.check_shell("ramos import --add /mnt/ramos-*.squashfs")
    machine.check_shell("rm /mnt/*.squashfs; umount /mnt")
    pull_the_stick(machine)
    machine.serial.send("poweroff\n")
    machine.expect("trying once more in", 120)
    machine.replug()
    machine.expect("the stick is back", 120)
    machine.expect("a rollback waits for the reboot: what runs is not saved over it", 120)


def save_without_the_stick(machine: Machine) -> None:
    assert machine.check_shell("cat /root/marker") == "elsewhere"
    machine.check_shell("mount /dev/vda /mnt; mountpoint -q /sys/fs/pstore")
    machine.check_shell("echo gone >/root/marker")
    pull_the_stick(machine)
    machine.qmp.execute("system_powerdown")
    machine.expect("THE SAVE FAILED.*it was pulled out", 120)
    save_elsewhere(machine)


def test_openrc_ends_though_the_stick_stalls_is_full_or_is_gone(
    boot: Boot, disk: Path, tmp_path: Path
) -> None:
    spare = tmp_path / "spare.img"
    extra = (*attach_disk(spare), *ONE_BOOT)
    parts = (stall_for_a_while, fill_the_stick, import_and_come_back, save_without_the_stick)
    for part in parts:
        with boot(disk, bus="usb", extra=extra) as machine:
            await_settled(machine)
            part(machine)
            machine.await_end()
    assert read_saved(spare, "root/marker") == "gone\n"
