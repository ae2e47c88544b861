"""The runtime in a real system: the save at power-off, a pulled stick, short memory.

Few boots, each used for many things: a boot is what costs.
"""

import json
import re
import time
from pathlib import Path

from ramos.vm import qemu
from ramos.vm.machine import Machine, make_overlay
from tests.vm.conftest import USER, Boot, ask_seals

# Takes memory in steps of 4 MiB of what cannot be compressed, until it is told to stop or dies.
HOG = """
import os, time
block = os.urandom(4 << 20)
held = []
for step in range(200):
    if os.path.exists("/run/stop-hog"):
        break
    held.append(bytearray(block))
    time.sleep(0.05)
    open("/run/hog", "w").write(str(step * 4))
    if any("/persist/swapfile" in line for line in open("/proc/swaps")):
        open("/run/hog-saw-swap", "w").write("yes")
        break
"""


def read_daemon(machine: Machine) -> dict[str, object]:
    _, text = machine.shell("cat /run/ramos/ramosd.json || echo {}")
    return dict(json.loads(text.splitlines()[-1]))


def await_state(machine: Machine, key: str, value: object, timeout_seconds: float = 120) -> None:
    deadline = time.monotonic() + timeout_seconds
    while read_daemon(machine).get(key) != value:
        assert time.monotonic() < deadline, f"{key} never became {value}"
        time.sleep(1)


def check_records(machine: Machine) -> None:
    health = json.loads(machine.check_shell("ramos health --json"))
    assert health["boots"] >= 1
    assert health["bytes_written_total"] >= health["bytes_written_boot"] > 0
    rows = json.loads(machine.check_shell("ramos boot --json --svg /run/boot.svg"))["rows"]
    assert {row["part"] for row in rows} == {"kernel", "init", "services"}
    assert machine.check_shell("head -c 4 /run/boot.svg") == "<svg"


def kill_daemon(machine: Machine) -> None:
    """It is back by itself, and knows what it must."""
    before = read_daemon(machine)["pid"]
    machine.check_shell(f"/bin/sh -c 'kill -9 {before}'")
    machine.check_shell(
        f"for i in $(seq 60); do grep -q '\"pid\": {before},' /run/ramos/ramosd.json || break; "
        "sleep 1; done"
    )
    assert read_daemon(machine)["pid"] != before


def refuse_another(machine: Machine, copy: Path) -> None:
    """A copy of the stick, bit by bit, but on another device."""
    place = {"driver": "file", "filename": str(copy)}
    machine.qmp.execute("blockdev-add", driver="qcow2", file=place, **{"node-name": "other"})
    device = {**qemu.stick_device("usb"), "id": "other", "drive": "other", "serial": "ANOTHER-0001"}
    machine.qmp.execute("device_add", **device)
    machine.expect("not the one this system was started from. Not used", 60)
    machine.qmp.execute("device_del", id="other")
    while machine.qmp.wait_event("DEVICE_DELETED")["data"].get("device") != "other":
        pass
    assert read_daemon(machine)["stick"] == "gone"


def pull_and_return(machine: Machine, copy: Path) -> None:
    """Pulled in the middle of a save: refused saves, then everything works again."""
    machine.check_shell(
        "head -c 60M /dev/urandom >/root/big; ls / >/dev/null; cat /bin/sleep >/dev/null"
    )
    machine.serial.send("ramos commit >/run/commit.out 2>&1 &\n")
    machine.check_shell("until ls /persist/upperfs/layers/*.tmp; do sleep 0.1; done")
    machine.unplug()
    machine.expect("the stick was pulled out", 60)
    machine.shell("wait")
    status, text = machine.shell("ramos commit")
    assert status == 1, text
    refuse_another(machine, copy)
    machine.replug()
    machine.expect("saves work again", 120)
    await_state(machine, "stick", "present")
    assert "past error" in machine.check_shell("ramos status")
    machine.check_shell("ramos verify")
    text = machine.check_shell("find /usr/bin -type f | head -50 | xargs cat | wc -c")
    assert int(text.split()[-1]) > 1_000_000, "the system's own files can be read again"
    machine.check_shell("rm /root/big; ramos commit -m returned")


def run_out_of_memory(machine: Machine) -> None:
    machine.write_file("/run/hog.py", HOG.encode())
    machine.shell("python3 /run/hog.py; echo status $?", 240)
    assert machine.check_shell("cat /run/hog-saw-swap") == "yes"
    status, killed = machine.shell("dmesg | grep -c 'Out of memory'")
    assert status == 1, f"the OOM killer was there: {killed}"
    await_state(machine, "swapfile", "off", 180)


def leave_the_stick(machine: Machine) -> None:
    """Its images go to RAM by themselves: with the stick out everything goes on, saves excepted."""
    await_state(machine, "toram", "done", 400)
    assert "RAMOS: the system is in RAM now as a whole: the stick can be" in machine.serial.text
    text = machine.check_shell("ramos status --json")
    assert json.loads(text[text.index("{") :])["runtime"]["toram"] == "done"
    machine.unplug()
    machine.expect("the stick was pulled out. Nothing can be saved until it is back", 60)
    machine.check_shell("echo 3 >/proc/sys/vm/drop_caches; test ! -e /dev/sda")
    # Everything is read, also what nobody has read since the boot.
    machine.check_shell("find /usr /etc /lib/modules -xdev -type f -exec cat {} + | wc -c", 240)
    assert machine.shell("dmesg | grep -c 'SQUASHFS error'")[0] == 1
    machine.check_shell("echo later >/root/later")
    status, text = machine.shell("ramos commit")
    assert status == 1
    assert "pulled out" in text
    assert "Put the same stick back in" in text
    machine.replug()
    machine.expect("saves work again", 120)
    await_state(machine, "stick", "present")
    machine.check_shell("ramos commit -m later; grep -q /run/ramos/ram /sys/block/loop*/loop/*file")
    assert "You may pull it out" in machine.check_shell("ramos eject")
    await_state(machine, "stick", "gone")
    status, text = machine.shell("ramos commit")
    assert (status, "it is not mounted" in text) == (1, True), text
    assert "GRUB: good kernel" in machine.check_shell("ramos boot"), "it has another name by now"
    machine.unplug()
    machine.replug()
    machine.expect("saves work again", 120)
    await_state(machine, "stick", "present")


def test_a_day_in_the_life(boot: Boot, disk: Path, image: Path, tmp_path: Path) -> None:
    copy = make_overlay(image, "raw", tmp_path / "copy.qcow2")
    with boot(disk, memory_mib=512, bus="usb") as machine:
        machine.login(USER)
        await_state(machine, "stick", "present")
        machine.check_shell("touch '/persist/user/a b'")
        machine.check_shell("until test -L '/home/user/a b'; do sleep 0.5; done")
        check_records(machine)
        kill_daemon(machine)
        pull_and_return(machine, copy)
        run_out_of_memory(machine)
        await_state(machine, "seal", "done", 400)
        assert "unsealed" not in ask_seals(machine, 1).values()
        machine.check_shell("echo kept >/root/marker; sync")
        machine.power_off()
        assert re.search(r"saved as generation \d+", machine.serial.text)
    with boot(disk, memory_mib=1280, bus="usb") as machine:
        machine.login(USER)
        assert machine.check_shell("cat /root/marker") == "kept"
        leave_the_stick(machine)
        log = machine.check_shell("cat /persist/log/last-shutdown.json /persist/log/boots.jsonl")
        assert '"saved"' in log
