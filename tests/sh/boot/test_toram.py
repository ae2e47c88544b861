"""Which images go to RAM, when, and what room is left for those that go later."""

from pathlib import Path

import pytest

from tests.labs.harness import MIB, Machine, list_steps, run_verbs

ROOM = 1_689_600_000  # what an upper of any size gets of 1,900,000 KiB that are free
ALL = "ramos.upper_size=90G"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A stick with a rootfs of a MiB and one layer of another, which no generation names."""
    made = Machine(tmp_path / "m")
    made.add_stick()
    made.write("persist/rootfs.squashfs", "x" * MIB)
    made.write("persist/upperfs.squashfs", "y" * MIB)
    return made


@pytest.mark.parametrize(
    ("cmdline", "toram", "upper_bytes"),
    [
        ("", "later", ROOM - MIB),
        ("ramos.toram=later", "later", ROOM - MIB),
        ("ramos.restore=mount", "later", ROOM - 2 * MIB),
        ("ramos.toram=no", "no", ROOM),
        ("ramos.toram=no ramos.restore=mount", "no", ROOM),
        ("ramos.toram=now", "now", ROOM),
        ("ramos.toram", "now", ROOM),
    ],
)
def test_room_is_left_for_what_is_copied_later(
    machine: Machine, shell: str, cmdline: str, toram: str, upper_bytes: int
) -> None:
    """What init copies is gone from the free RAM by itself; here the free RAM never changes."""
    report = machine.boot(shell, f"{ALL} {cmdline}")
    assert (report["toram"], report["upper_bytes"]) == (toram, str(upper_bytes))
    assert (machine.root / "run/ramos/in-ram").exists() is (toram == "now")


@pytest.mark.parametrize(
    ("total_kib", "free_kib", "toram"),
    [
        (921600, 4096, "later"),
        (921600, 4095, "no"),
        (921599, 900000, "no"),
    ],
)
def test_images_stay_where_they_need_more_than_a_quarter_or_the_machine_is_small(
    machine: Machine, shell: str, total_kib: int, free_kib: int, toram: str
) -> None:
    machine.write("proc/meminfo", f"MemTotal: {total_kib} kB\nMemAvailable: {free_kib} kB\n")
    report = machine.boot(shell)
    assert (report["asked_toram"], report["toram"]) == ("later", toram)
    assert machine.read("run/ramos/motd") == "", "nobody asked for it: nobody is told"
    noted = "stay on the stick" in machine.read("run/ramos/boot.log")
    assert noted is (toram == "no")


@pytest.mark.parametrize(
    ("total_kib", "small"), [(216_000, True), (409_599, True), (409_600, False)]
)
def test_a_machine_that_is_too_small_says_so(
    machine: Machine, shell: str, total_kib: int, small: bool
) -> None:
    machine.write("proc/meminfo", f"MemTotal: {total_kib} kB\nMemAvailable: {total_kib // 2} kB\n")
    machine.boot(shell)
    told = f"too small: {total_kib // 1024} MiB of RAM, where 512 MiB are the least"
    assert (told in machine.read("run/ramos/motd")) is small


def test_a_machine_that_is_too_small_says_so_before_it_needs_memory(
    machine: Machine, shell: str
) -> None:
    """With 256 MiB, and drivers that do not come back from being loaded."""
    machine.write("proc/meminfo", "MemTotal: 210748 kB\nMemAvailable: 151552 kB\n")
    done = run_verbs(shell, machine.root, f"modprobe() {{ exit 9; }}\n{list_steps()}")
    assert done.returncode == 9
    assert "RAMOS: this machine is too small: 205 MiB of RAM" in done.stdout
    assert " memory 205 MiB of RAM, 148 MiB free\n" in machine.read("run/ramos/boot.log")
