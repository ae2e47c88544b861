"""`python -m bench.idle IMAGE`: what an idle system costs.

Boots the image in a virtual machine, leaves it alone, and then reads the kernel's own counters: how
often ramosd was woken, what it holds in RAM, how many bytes were written to the stick. The last
line is `wakeups_per_10s X rss_mib Y stick_bytes_10min Z`.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ramos.vm import accelerator, qemu
from ramos.vm.machine import Machine, start_machine

SECTOR_BYTES = 512
# The first boot seals the base images; what comes after that is idle. To copy them to RAM is work.
STAYS = ("ramos.toram=no",)
SETTLED = 'until grep -q \'"seal": "done"\' /run/ramos/ramosd.json; do sleep 1; done'
SETTLE_SECONDS = 120
WINDOW_SECONDS = 600
READ = (
    "cut -d' ' -f1 /proc/uptime; "
    "pid=$(sed 's/.*\"pid\": \\([0-9]*\\).*/\\1/' /run/ramos/ramosd.json); "
    "sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p; "
    "s/^voluntary_ctxt_switches:[^0-9]*//p' /proc/$pid/status; "
    "disk=$(sed -n 's/^persist=.dev.\\([a-z]*\\).*/\\1/p' /run/ramos/boot); "
    "awk '{print $7}' /sys/block/$disk/stat; sed -n 's/^persist=//p' /run/ramos/boot"
)


@dataclass(frozen=True)
class Counters:
    """What the guest's kernel counts, at one moment."""

    uptime_seconds: float
    rss_kib: int
    wakeups: int
    written_bytes: int


def read_counters(machine: Machine) -> Counters:
    """One look at the guest."""
    uptime, rss, wakeups, sectors, _ = machine.check_shell(READ).split()
    return Counters(float(uptime), int(rss), int(wakeups), int(sectors) * SECTOR_BYTES)


def tell(line: str) -> None:
    """A word on the way; what was measured is all that goes to standard output."""
    sys.stderr.write(f"{line}\n")


def measure_idle(image: Path, window_seconds: int, accel: accelerator.Accel) -> dict[str, float]:
    """Boot, settle, look twice."""
    plan = qemu.VmPlan(image, firmware="direct", parameters=STAYS, flush=False)
    kvm = accelerator.choose_kvm(plan, accel, tell)
    with start_machine(plan, snapshot=True, kvm=kvm) as machine:
        machine.login("user")
        time.sleep(SETTLE_SECONDS)
        machine.check_shell(SETTLED, WINDOW_SECONDS)
        before = read_counters(machine)
        time.sleep(window_seconds)
        after = read_counters(machine)
    seconds = after.uptime_seconds - before.uptime_seconds
    written = after.written_bytes - before.written_bytes
    return {
        "seconds": round(seconds, 1),
        "wakeups_per_10s": round(10 * (after.wakeups - before.wakeups) / seconds, 2),
        "rss_mib": round(max(before.rss_kib, after.rss_kib) / 1024, 1),
        "stick_bytes_10min": round(written * 600 / seconds),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--seconds", type=int, default=WINDOW_SECONDS, help="how long to leave it")
    parser.add_argument(
        "--accel", choices=accelerator.ACCELS, default="auto", help="see ramos-vm(1)"
    )
    parser.add_argument("--json", action="store_true", help="one object instead of text")
    options = parser.parse_args()
    found = measure_idle(options.image, options.seconds, options.accel)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    sys.stdout.write(f"left alone for {found.pop('seconds')} s of the guest's time\n")
    sys.stdout.write(" ".join(f"{key} {value}" for key, value in found.items()) + "\n")


if __name__ == "__main__":
    main()
