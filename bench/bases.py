"""`python -m bench.bases IMAGE...`: what images of several bases cost, beside each other.

Boots each image in turns, directly from a virtual disk: how large it is, when init, the system and
the login prompt are there, what an idle system takes of the RAM while the base images stay on the
stick, what these would take besides, what a save of 1 MB takes. There are medians, in a column for
each image.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench import boot
from bench.idle import SETTLED, WINDOW_SECONDS
from ramos.sizes import MIB
from ramos.vm import accelerator, firmware
from ramos.vm.machine import Machine, start_machine
from ramos.vm.qemu import VmPlan

IDLE_SECONDS = 30
COMMIT_SECONDS = 600
READ_USED = "awk '/^MemTotal/{t=$2} /^MemAvailable/{print (t - $2) / 1024}' /proc/meminfo"
READ_IMAGES = "cat /persist/*.squashfs | wc -c | awk '{print $1 / 1048576}'"
CHANGE = "head -c 1000000 /dev/urandom >/etc/bench; sync"


def time_command(machine: Machine, command: str) -> float:
    """How long a command takes, by the guest's clock."""
    look = "cut -d' ' -f1 /proc/uptime"
    words = machine.check_shell(f"{look}; {command} >&2; {look}", COMMIT_SECONDS).split()
    return float(words[-1]) - float(words[0])


def measure(image: Path, kvm: bool) -> dict[str, float]:
    """One boot, and all that is asked of it."""
    with tempfile.TemporaryDirectory(prefix="ramos-bases-") as name:
        kernel = firmware.read_direct_kernel(image, Path(name))
        words = (*boot.VERBOSE, "ramos.toram=no")
        plan = VmPlan(image, firmware="direct", network=True, parameters=words)
        with start_machine(replace(plan, kernel=kernel), kvm=kvm) as machine:
            marks = boot.watch(image.stem, machine, ("switch_root", "login"))
            if not machine.is_answered():
                machine.serial.send("user\n")
            machine.open_shell("exec sudo -n sh")
            machine.check_shell(SETTLED, WINDOW_SECONDS)
            time.sleep(IDLE_SECONDS)
            found = {
                "image, MiB used": image.stat().st_blocks * 512 / MIB,
                "initramfs, MiB": kernel.initramfs.stat().st_size / MIB,
                "init, s": marks.init,
                "switch_root, s": marks.switch_root,
                "login, s": marks.login,
                "to login, CPU s": marks.cpu_login,
                "RAM at idle, MiB": float(machine.check_shell(READ_USED)),
                "base images, MiB": float(machine.check_shell(READ_IMAGES)),
            }
            machine.check_shell(CHANGE)
            found["a commit of 1 MB, s"] = time_command(machine, "ramos commit -m bench")
            machine.power_cut()
    return found


def print_table(names: list[str], runs: dict[str, list[dict[str, float]]]) -> None:
    """A row for each figure."""
    print(f"| | {' | '.join(names)} |")
    print(f"|---|{'---|' * len(names)}")
    for figure in runs[names[0]][0]:
        cells = [statistics.median(run[figure] for run in runs[name]) for name in names]
        print(f"| {figure} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.bases", description=__doc__)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--accel", choices=accelerator.ACCELS, default="auto")
    arguments = parser.parse_args()
    plan = VmPlan(arguments.images[0], firmware="direct")
    kvm = accelerator.choose_kvm(plan, arguments.accel, boot.tell)
    runs: dict[str, list[dict[str, float]]] = {image.stem: [] for image in arguments.images}
    for number in range(arguments.runs):
        for image in arguments.images:
            boot.tell(f"run {number + 1} of {arguments.runs}: {image.stem}")
            runs[image.stem].append(measure(image, kvm))
            boot.tell(str(runs[image.stem][-1]))
    print_table(list(runs), runs)


if __name__ == "__main__":
    main()
