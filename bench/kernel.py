"""`python -m bench.kernel IMAGE --memory MIB [--lab LAB]`: the upgrade to another kernel.

Boots the image in a virtual machine with that much memory, serves the package of another kernel on
the loopback, and upgrades to it; then it boots that kernel and loads drivers of it. For Debian that
is one of Debian's kernels in full. For an image made from LAB (tests/labs/alpine.py) it is Alpine's
own under the next release's name, with the modules that a boot can want. The last line says what it
took, or why it was refused.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.idle import SETTLED, WINDOW_SECONDS
from ramos.formats import deb
from ramos.vm import qemu
from ramos.vm.machine import Machine, make_overlay, start_machine
from tests.labs import alpine, alpine_kernel, alpine_mirror, kernelmirror
from tests.labs.debmirror import Mirror

SAMPLE = b"""while sleep 1; do
    awk '/MemAvailable/{print "available", int($2 / 1024)}' /proc/meminfo
    df -m / | awk 'END{print "upper", $3}'
    awk '{print "zram", int($3 / 1048576)}' /sys/block/zram0/mm_stat
done >/run/samples
"""
ESP = "mkdir -p /tmp/esp && mount -o ro LABEL=RAMOS-ESP /tmp/esp && df -m /tmp/esp; umount /tmp/esp"
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


@dataclass(frozen=True)
class Supply:
    """A mirror with another kernel, and how a machine comes to it."""

    folder: Path
    kernel: str
    use: Callable[[Machine, int], None]
    command: str
    drivers: str


def supply_debian(folder: Path) -> Supply:
    """Debian's package, and a metapackage that names it."""
    kernel = kernelmirror.find_other_kernel()
    mirror = Mirror(folder)
    package = deb.read_package(kernelmirror.download(f"linux-image-{kernel}", folder))
    fields = {"Package": kernelmirror.GENERIC, "Version": "99", "Architecture": "amd64"}
    mirror.add({**fields, "Depends": f"{package.name} (= {package.version})"}, {})
    for name in ("kmod", "linux-base"):
        mirror.add({"Package": name, "Version": "99", "Architecture": "all"}, {})
    mirror.publish()
    return Supply(
        mirror.folder,
        kernel,
        lambda machine, port: kernelmirror.use(machine, mirror, port),
        "ramos pkg upgrade",
        "dummy nfs i915 snd_hda_intel",
    )


def supply_alpine(folder: Path, lab: Path) -> Supply:
    """Alpine's own kernel as a newer one, signed as the lab is."""
    there = alpine.open_lab(lab)
    mirror = alpine_mirror.Mirror(folder, there.key, there.keys)
    for repository in ("main", "community"):
        mirror.folder(repository).mkdir(parents=True)
    alpine_mirror.add_package(mirror, alpine_kernel.make_kernel(alpine_kernel.NEW))
    alpine_mirror.write_indexes(mirror)

    def use(machine: Machine, port: int) -> None:
        place = f"http://10.0.2.2:{port}/{alpine_mirror.BRANCH}"
        machine.check_shell(f"echo {place}/main >/etc/apk/repositories; apk update")

    return Supply(folder, alpine_kernel.NEW.release, use, "apk upgrade", "dummy")


def read_samples(machine: Machine, word: str) -> list[int]:
    """The figures of one kind, one for each second or so."""
    return [int(n) for n in machine.check_shell(f"sed -n 's/^{word} //p' /run/samples").split()]


def upgrade(machine: Machine, command: str) -> tuple[bool, str]:
    """Whether it went well, and the figures or the last lines."""
    before = read_used(machine)
    machine.write_file("/tmp/sample.sh", SAMPLE)
    machine.check_shell("sh /tmp/sample.sh >/dev/null 2>&1 &")
    started = time.monotonic()
    code, text = machine.shell(command, UPGRADE_SECONDS)
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


def measure(image: Path, memory_mib: int, lab: Path | None) -> str:
    """The whole run."""
    with tempfile.TemporaryDirectory(prefix="ramos-kernel-") as name:
        scratch = Path(name)
        folder = scratch / "mirror"
        supply = supply_alpine(folder, lab) if lab else supply_debian(folder)
        disk = make_overlay(image, "raw", scratch / "stick.qcow2")
        plan = qemu.VmPlan(
            disk, "qcow2", firmware="bios", network=True, memory_mib=memory_mib, flush=False
        )
        with (
            kernelmirror.serve_folder(supply.folder) as port,
            start_machine(plan, snapshot=False, kvm=False) as machine,
        ):
            machine.login("user")
            machine.check_shell(SETTLED, WINDOW_SECONDS)
            supply.use(machine, port)
            went_well, text = upgrade(machine, supply.command)
            if went_well:
                machine.serial.send("reboot\n")
                machine.expect(rf"Loading Linux {re.escape(supply.kernel)} \.\.\.")
                machine.login("user")
                assert machine.check_shell("uname -r") == supply.kernel
                machine.check_shell(f"modprobe -a {supply.drivers}")
                text += f" runs {supply.kernel}"
            return text


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.kernel", description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--memory", type=int, default=2048, help="MiB of the virtual machine")
    parser.add_argument("--lab", type=Path, help="what an image of Alpine was made from")
    options = parser.parse_args()
    sys.stdout.write(measure(options.image, options.memory, options.lab) + "\n")


if __name__ == "__main__":
    main()
