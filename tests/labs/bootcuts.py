"""Power cuts during the boot: `python -m tests.labs.bootcuts --cuts 30`.

A stick with three generations is booted by BIOS again and again. Each time the power is cut at a
random moment between GRUB's menu and the confirmation of the boot; then it is booted once more,
and that boot must reach a login with every generation still there. About half of these boots are
cut before they are confirmed as well, so that the counters of grubenv run down and up again.

A cut is SIGKILL for QEMU. The host's page cache outlives it, so what the guest wrote is on the
image in the order in which it was written: this finds states that the boot cannot get out of, not
a missing flush. `python -m tests.crash` finds those, from a log of the writes.
"""

import argparse
import collections
import contextlib
import random
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.boot import grubenv
from ramos.errors import RamosError
from ramos.linux import run
from ramos.vm import firmware
from ramos.vm.machine import BOOT_SECONDS, HOTKEYS, Machine, start_machine
from ramos.vm.qemu import VmPlan

USER = "user"
MEMORY_MIB = 768
# The last text that was seen before the cut tells how far the boot was.
PHASES = (
    ("logged in", r"login: "),
    ("services", r"INIT: version|systemd\["),
    ("init", r"RAMOS: \w+, generation"),
    ("kernel", r"Loading Linux"),
    ("GRUB", r"RAMOS \(clean\)"),
)


@dataclass
class Tally:
    """What was done and what came of it."""

    cuts: int = 0
    logins: int = 0
    lost: int = 0


class Bench:
    """One stick as a raw image, so that its grubenv can be read from outside between boots."""

    def __init__(self, image: Path, scratch: Path, *, kvm: bool) -> None:
        self.stick = scratch / "stick.img"
        run.run(["cp", "--sparse=always", image, self.stick])
        self.kvm = kvm
        self.plan = VmPlan(self.stick, firmware="bios", memory_mib=MEMORY_MIB, flush=False)
        self.generations: tuple[str, ...] = ()
        self.boot_seconds = 0.0

    def start(self) -> contextlib.AbstractContextManager[Machine]:
        """The machine, at the moment the power comes on."""
        return start_machine(self.plan, snapshot=False, kvm=self.kvm)

    def read_env(self) -> grubenv.BootEnv:
        """What GRUB will find."""
        drive = f"{self.stick}@@{firmware.find_esp_start(self.stick)}"
        return grubenv.parse(run.run(["mtype", "-i", drive, f"::/{layout.GRUBENV}"]).stdout)

    def prepare(self) -> None:
        """Two saves, and how long a boot takes from the menu to its confirmation."""
        with self.start() as machine:
            machine.pick_entry("default")
            machine.login(USER)
            for name in ("first", "second"):
                machine.check_shell(f"echo {name} >/etc/{name}; ramos commit -m {name}")
            self.generations = list_generations(machine)
            machine.check_shell("sync")
            machine.power_cut()
        with self.start() as machine:
            machine.expect(r"RAMOS \(clean\)")
            start = time.monotonic()
            machine.serial.send(HOTKEYS["default"])
            # GRUB has taken one try by then: a full counter after it is the confirmation.
            machine.expect(r"RAMOS: \w+, generation")
            self.await_confirmation(machine)
            self.boot_seconds = time.monotonic() - start
            machine.power_cut()

    def await_confirmation(self, machine: Machine) -> None:
        """Wait until the counter is full again."""
        deadline = time.monotonic() + BOOT_SECONDS
        while self.read_env().gen_tries != grubenv.GENERATION_TRIES:
            if machine.process.poll() is not None or time.monotonic() > deadline:
                raise RamosError("the boot is not confirmed", self.stick, repr(self.read_env()))
            time.sleep(0.2)

    def cut(self, after_seconds: float) -> str:
        """Boot, cut the power, and tell in which phase that was."""
        with self.start() as machine:
            machine.expect(r"RAMOS \(clean\)")
            machine.serial.send(HOTKEYS["default"])
            time.sleep(after_seconds)
            machine.power_cut()
            time.sleep(0.05)
            text = machine.serial.text
        return next((name for name, pattern in PHASES if re.search(pattern, text)), "firmware")

    def boot(self, confirm: bool) -> tuple[str, tuple[str, ...]]:
        """Boot to a login by the menu's own choice: what runs, and the generations there are."""
        with self.start() as machine:
            match = machine.expect(r"RAMOS: (\w+, generation \d+), kernel")
            machine.login(USER)
            found = list_generations(machine)
            if confirm:
                self.await_confirmation(machine)
            machine.power_cut()
        return match[1], found


def list_generations(machine: Machine) -> tuple[str, ...]:
    """Every generation whose file and layers check, by its number."""
    folder = f"{layout.PERSIST_DIR}/{layout.GENERATIONS_DIR}"
    machine.check_shell("ramos verify --all", 300)
    return tuple(machine.check_shell(f"ls {folder}").split())


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Cut the power during the boot.")
    parser.add_argument("--cuts", type=int, default=30)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--image", type=Path, help="default: the image of the VM tests")
    return parser.parse_args()


def cut_boots(bench: Bench, cuts: int, chance: random.Random) -> Tally:
    """All the cuts; a histogram at the end."""
    tally = Tally()
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(1, cuts + 1):
        phase = bench.cut(chance.uniform(0, bench.boot_seconds))
        tally.cuts += 1
        try:
            running, found = bench.boot(confirm=chance.random() < 0.5)
        except RamosError as error:
            running, found = f"no login ({error.what})", bench.generations
            print(error)
        else:
            tally.logins += 1
        tally.lost += len(set(bench.generations) - set(found))
        outcomes[f"cut in {phase:10} -> {running}"] += 1
        print(f"{number:3} cut in {phase}, then {running}; {bench.read_env()}", flush=True)
    print()
    for line, count in sorted(outcomes.items()):
        print(f"{line:50} {count:4} {'#' * count}")
    return tally


def main() -> int:
    """Run, print, and fail where a boot or a generation was lost."""
    from tests.vm.conftest import choose_kvm, provide_image

    arguments = parse_arguments()
    seed = arguments.seed if arguments.seed is not None else time.time_ns() % 100000
    print(f"seed {seed}", flush=True)
    scratch = Path(tempfile.mkdtemp(prefix="ramos-bootcuts-"))
    try:
        image = arguments.image or provide_image("openrc")
        bench = Bench(image, scratch, kvm=choose_kvm(image, "bios"))
        bench.prepare()
        print(f"a boot takes {bench.boot_seconds:.1f} s from the menu to its confirmation")
        tally = cut_boots(bench, arguments.cuts, random.Random(seed))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"cuts {tally.cuts} logins {tally.logins} lost {tally.lost}")
    return 0 if tally.logins == tally.cuts and tally.lost == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
