"""`python -m bench.kernel IMAGE --memory MIB`: the upgrade to a real kernel of Debian, in full.

Boots the image in a virtual machine with that much memory, serves the package of another kernel on
the loopback, and upgrades to it; then it boots that kernel and loads drivers of it. The last line
says what it took, or why it was refused.
"""

import argparse
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ramos.formats import deb
from ramos.vm import qemu
from ramos.vm.machine import Machine, make_overlay, start_machine
from tests.labs import kernelmirror
from tests.labs.debmirror import Mirror

SAMPLE = b"""while sleep 1; do
    awk '/MemAvailable/{print "available", int($2 / 1024)}' /proc/meminfo
    df -m / | awk 'END{print "upper", $3}'
    awk '{print "zram", int($3 / 1048576)}' /sys/block/zram0/mm_stat
done >/run/samples
"""
ESP = "mkdir -p /tmp/esp && mount -o ro LABEL=RAMOS-ESP /tmp/esp && df -m /tmp/esp; umount /tmp/esp"
DRIVERS = "dummy nfs i915 snd_hda_intel"
UPGRADE_SECONDS = 1500
LINES_SHOWN = 3


@dataclass(frozen=True)
class Used:
    """What is taken of the stick's partitions, in MiB."""

    persist: int
    esp: int


def read_used(machine: Machine) -> Used:
    """One look at the stick."""
    columns = [
        machine.check_shell(f"{command} | tail -n 1").split()[2]
        for command in ("df -m /persist", f"({ESP})")
    ]
    return Used(int(columns[0]), int(columns[1]))


def make_mirror(folder: Path) -> tuple[Mirror, str]:
    """A mirror with Debian's package, and a metapackage that names it; and the kernel's version."""
    kernel = kernelmirror.find_other_kernel()
    mirror = Mirror(folder)
    package = deb.read_package(kernelmirror.download(f"linux-image-{kernel}", folder))
    fields = {"Package": kernelmirror.GENERIC, "Version": "99", "Architecture": "amd64"}
    mirror.add({**fields, "Depends": f"{package.name} (= {package.version})"}, {})
    for name in ("kmod", "linux-base"):
        mirror.add({"Package": name, "Version": "99", "Architecture": "all"}, {})
    mirror.publish()
    return mirror, kernel


def read_samples(machine: Machine, word: str) -> list[int]:
    """The figures of one kind, one for each second or so."""
    return [int(n) for n in machine.check_shell(f"sed -n 's/^{word} //p' /run/samples").split()]


def upgrade(machine: Machine) -> tuple[bool, str]:
    """Whether it went well, and the figures or the last lines."""
    before = read_used(machine)
    machine.write_file("/tmp/sample.sh", SAMPLE)
    machine.check_shell("sh /tmp/sample.sh >/dev/null 2>&1 &")
    started = time.monotonic()
    code, text = machine.shell("ramos pkg upgrade", UPGRADE_SECONDS)
    seconds = time.monotonic() - started
    if code != 0:
        return False, "\n".join(text.splitlines()[-LINES_SHOWN:])
    after = read_used(machine)
    return True, (
        f"seconds {seconds:.0f} available_mib_min {min(read_samples(machine, 'available'))} "
        f"upper_mib_max {max(read_samples(machine, 'upper'))} "
        f"zram_mib_max {max(read_samples(machine, 'zram'))} "
        f"persist_mib {after.persist - before.persist} esp_mib {after.esp - before.esp}"
    )


def measure(image: Path, memory_mib: int) -> str:
    """The whole run."""
    with tempfile.TemporaryDirectory(prefix="ramos-kernel-") as name:
        scratch = Path(name)
        mirror, kernel = make_mirror(scratch / "mirror")
        disk = make_overlay(image, "raw", scratch / "stick.qcow2")
        plan = qemu.VmPlan(
            disk, "qcow2", firmware="bios", network=True, memory_mib=memory_mib, flush=False
        )
        with (
            kernelmirror.serve_folder(mirror.folder) as port,
            start_machine(plan, snapshot=False, kvm=False) as machine,
        ):
            machine.login("user")
            kernelmirror.use(machine, mirror, port)
            went_well, text = upgrade(machine)
            if went_well:
                machine.serial.send("reboot\n")
                machine.expect(rf"Loading Linux {re.escape(kernel)} \.\.\.")
                machine.login("user")
                assert machine.check_shell("uname -r") == kernel
                machine.check_shell(f"modprobe -a {DRIVERS}")
                text += f" runs {kernel}"
            return text


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.kernel", description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--memory", type=int, default=2048, help="MiB of the virtual machine")
    options = parser.parse_args()
    sys.stdout.write(measure(options.image, options.memory) + "\n")


if __name__ == "__main__":
    main()
