"""Whole boots, step by step as init has them, on a fake machine: where does each one end?"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.labs.harness import KERNEL, MIB, Machine, superblock

BASE = "modules:firmware:rootfs"
FULL = f"layers/02:layers/01:{BASE}"
ONE = f"layers/01:{BASE}"


def corrupt(machine: Machine, path: str) -> None:
    """Flip one bit, as a worn stick does."""
    file = machine.root / "persist" / path
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def layer_path(machine: Machine, content: str) -> str:
    return machine.add_layer(content).path


def nothing(_machine: Machine) -> None:
    """The stick as it is."""


def corrupt_newest_layer(machine: Machine) -> None:
    corrupt(machine, layer_path(machine, "second layer"))


def corrupt_all_layers(machine: Machine) -> None:
    corrupt_newest_layer(machine)
    corrupt(machine, layer_path(machine, "first layer"))


def lose_newest_layer(machine: Machine) -> None:
    (machine.root / "persist" / layer_path(machine, "second layer")).unlink()


def shorten_newest_layer(machine: Machine) -> None:
    machine.write(f"persist/{layer_path(machine, 'second layer')}", "second")


def corrupt_newest_file(machine: Machine) -> None:
    corrupt(machine, "upperfs/generations/000003")


def empty_newest_file(machine: Machine) -> None:
    machine.write("persist/upperfs/generations/000003", "")


def corrupt_all_files(machine: Machine) -> None:
    for number in (1, 2, 3):
        corrupt(machine, f"upperfs/generations/{number:06d}")


def copy_newest_file(machine: Machine) -> None:
    text = machine.read("persist/upperfs/generations/000003")
    machine.write("persist/upperfs/generations/000009", text)


def add_foreign_files(machine: Machine) -> None:
    for name in ("000004.tmp", "README", "4", "-rf", "9999999999", "00004x"):
        machine.write(f"persist/upperfs/generations/{name}", "junk\n")


def prune_parent(machine: Machine) -> None:
    (machine.root / "persist/upperfs/generations/000002").unlink()
    corrupt_newest_layer(machine)


def break_newest_mount(machine: Machine) -> None:
    machine.write("broken", "layer-02 " + layer_path(machine, "second layer"))


def break_ram_copy(machine: Machine) -> None:
    machine.write("broken", "ram/layer-02")


def shake_newest_mount(machine: Machine) -> None:
    machine.write("flaky", "layer-02")


def fill_memory(machine: Machine) -> None:
    machine.write("proc/meminfo", "MemTotal: 2000000 kB\nMemAvailable: 300 kB\n")
    machine.write("persist/rootfs.squashfs", "x" * MIB)


def break_unpacking(machine: Machine) -> None:
    machine.write("no-unpack", "")


def lose_btrfs(machine: Machine) -> None:
    machine.write("no-btrfs", "")


def lose_generations(machine: Machine) -> None:
    for path in (machine.root / "persist/upperfs/generations").iterdir():
        path.unlink()


def save_nothing(machine: Machine) -> None:
    shutil.rmtree(machine.root / "persist/upperfs")


def lay_out_by_hand(machine: Machine) -> None:
    lose_generations(machine)
    machine.write("persist/upperfs.squashfs", "old default")
    machine.write("persist/upperfs-backup.squashfs", "old backup")


def damage_old_default(machine: Machine) -> None:
    lay_out_by_hand(machine)
    machine.write("broken", "persist/upperfs.squashfs layer-01")


def damage_rootfs(machine: Machine) -> None:
    corrupt(machine, "rootfs.squashfs")


def lose_modules(machine: Machine) -> None:
    (machine.root / f"persist/modules-{KERNEL}.squashfs").unlink()


def break_modules(machine: Machine) -> None:
    machine.write("broken", f"modules-{KERNEL}")


def lose_firmware(machine: Machine) -> None:
    (machine.root / "persist/firmware.squashfs").unlink()


def roll_back(machine: Machine) -> None:
    machine.add_generation(4, 3, machine.add_layer("first layer"))


def add_sidecar(machine: Machine) -> None:
    layer = machine.add_layer("third layer")
    machine.add_generation(4, 3, layer, machine.add_layer("an ACL", kind="acl"))


def damage_sidecar(machine: Machine) -> None:
    add_sidecar(machine)
    corrupt(machine, machine.add_layer("an ACL", kind="acl").path)


Scenario = tuple[str, Callable[[Machine], None], str, dict[str, str], str, str]
# id, what is done to the stick, kernel parameters, what /run/ramos/boot says, lowerdir, skipped
SCENARIOS: list[Scenario] = [
    ("default", nothing, "", {"mode": "default", "generation": "3", "trial": "1"}, FULL, ""),
    (
        "backup",
        nothing,
        "ramos.mode=backup",
        {"mode": "backup", "asked_mode": "backup", "generation": "2"},
        ONE,
        "",
    ),
    ("clean", nothing, "ramos.mode=clean", {"mode": "clean", "generation": "0"}, BASE, ""),
    ("asked", nothing, "ramos.generation=2", {"generation": "2", "trial": "0"}, ONE, ""),
    ("asked-zeros", nothing, "ramos.generation=000002", {"generation": "2"}, ONE, ""),
    ("asked-factory", nothing, "ramos.generation=1", {"generation": "1"}, BASE, ""),
    (
        "asked-absent",
        nothing,
        "ramos.generation=7",
        {"generation": "3"},
        FULL,
        "000007 it does not",
    ),
    ("clean-wins", nothing, "ramos.mode=clean ramos.generation=2", {"mode": "clean"}, BASE, ""),
    ("layer-flipped", corrupt_newest_layer, "", {"generation": "2"}, ONE, "000003 "),
    ("layer-missing", lose_newest_layer, "", {"generation": "2"}, ONE, "000003 "),
    ("layer-short", shorten_newest_layer, "", {"generation": "2"}, ONE, "000003 "),
    ("layer-unmountable", break_newest_mount, "", {"generation": "2"}, ONE, "000003 "),
    ("layer-flaky", shake_newest_mount, "", {"generation": "3"}, FULL, ""),
    ("ram-copy-bad", break_ram_copy, "", {"generation": "3", "restore": "mount"}, FULL, ""),
    ("all-layers", corrupt_all_layers, "", {"generation": "1", "mode": "default"}, BASE, "000003 "),
    ("file-flipped", corrupt_newest_file, "", {"generation": "2"}, ONE, "000003 its file"),
    ("file-empty", empty_newest_file, "", {"generation": "2"}, ONE, "000003 its file"),
    ("file-copied", copy_newest_file, "", {"generation": "3"}, FULL, "000009 its file"),
    (
        "file-flipped-backup",
        corrupt_newest_file,
        "ramos.mode=backup",
        {"generation": "1"},
        BASE,
        "000003 its file",
    ),
    ("all-files", corrupt_all_files, "", {"mode": "clean", "generation": "0"}, BASE, "000003 its"),
    ("foreign-files", add_foreign_files, "", {"generation": "3"}, FULL, ""),
    ("parent-pruned", prune_parent, "", {"generation": "1"}, BASE, "000003 "),
    ("rolled-back", roll_back, "", {"generation": "4"}, ONE, ""),
    ("sidecar", add_sidecar, "", {"generation": "4"}, ONE, ""),
    ("sidecar-damaged", damage_sidecar, "", {"generation": "3"}, FULL, "000004 "),
    ("restore-ram", nothing, "", {"restore": "ram", "generation": "3"}, FULL, ""),
    ("restore-mount", nothing, "ramos.restore=mount", {"restore": "mount"}, FULL, ""),
    ("restore-unpack", nothing, "ramos.restore=unpack", {"restore": "unpack"}, FULL, ""),
    ("unpack-fails", break_unpacking, "ramos.restore=unpack", {"restore": "mount"}, FULL, ""),
    ("toram", nothing, "ramos.toram", {"toram": "now", "restore": "ram"}, FULL, ""),
    ("toram-too-big", fill_memory, "ramos.toram", {"toram": "no", "restore": "ram"}, FULL, ""),
    ("toram-mount", nothing, "ramos.toram ramos.restore=mount", {"restore": "ram"}, FULL, ""),
    ("zram", nothing, "", {"upper": "zram", "upper_bytes": "1536000000"}, FULL, ""),
    ("tmpfs", nothing, "ramos.upper=tmpfs", {"upper": "tmpfs"}, FULL, ""),
    ("size", nothing, "ramos.upper_size=512M", {"upper_bytes": str(512 * MIB)}, FULL, ""),
    ("oversize", nothing, "ramos.upper_size=90G", {"upper_bytes": "1689600000"}, FULL, ""),
    ("no-btrfs", lose_btrfs, "", {"upper": "tmpfs"}, FULL, ""),
    ("by-hand", lay_out_by_hand, "", {"mode": "default", "generation": "0"}, ONE, ""),
    ("by-hand-backup", lay_out_by_hand, "ramos.mode=backup", {"mode": "backup"}, ONE, ""),
    ("by-hand-damaged", damage_old_default, "", {"mode": "default", "generation": "0"}, ONE, ""),
    ("nothing-saved", save_nothing, "", {"mode": "default", "generation": "0"}, BASE, ""),
    ("lost", lose_generations, "", {"mode": "clean", "asked_mode": "default"}, BASE, ""),
    (
        "no-backup",
        save_nothing,
        "ramos.mode=backup",
        {"mode": "clean", "asked_mode": "backup"},
        BASE,
        "",
    ),
    ("rootfs-flipped", damage_rootfs, "ramos.verify=full", {"generation": "3"}, FULL, ""),
    ("no-modules", lose_modules, "", {"generation": "3"}, FULL.replace("modules:", ""), ""),
    ("bad-modules", break_modules, "", {"generation": "3"}, FULL.replace("modules:", ""), ""),
    ("no-firmware", lose_firmware, "", {"generation": "3"}, FULL.replace("firmware:", ""), ""),
    ("bad-parameters", nothing, "ramos.mode=x ramos.x=1 ramos.generation=-1", {}, FULL, ""),
]
WARNED = {
    "ram-copy-bad": "ramos.restore=ram did not work",
    "unpack-fails": "ramos.restore=unpack did not work",
    "all-files": "",
    "toram-too-big": "do not fit into RAM",
    "no-btrfs": "uncompressed in a tmpfs",
    "by-hand-damaged": "upperfs.squashfs is skipped",
    "lost": "holds layers, but no generation that could be read",
    "no-backup": "no backup to boot",
    "rootfs-flipped": "rootfs.squashfs is damaged",
    "no-modules": f"no modules for kernel {KERNEL}",
    "bad-modules": f"no modules for kernel {KERNEL}",
    "no-firmware": "no firmware",
    "bad-parameters": "kernel parameter ignored: ramos.generation=-1",
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[s[0] for s in SCENARIOS])
def test_boot(machine: Machine, shell: str, scenario: Scenario) -> None:
    name, spoil, cmdline, expected, lower, skipped = scenario
    spoil(machine)
    report = machine.boot(shell, cmdline)
    assert report["shell"] == ""
    assert report["errors"] == ""
    assert {key: report.get(key) for key in expected} == expected
    assert report["lower"] == lower
    assert report["skipped"].startswith(skipped)
    assert bool(report["skipped"]) == bool(skipped)
    greeting = machine.read("run/ramos/motd")
    assert bool(greeting) == bool(skipped or name in WARNED)
    assert WARNED.get(name, "") in greeting


@pytest.mark.parametrize("way", ["ram", "mount", "unpack"])
def test_sealed_layers_are_not_read_to_be_checked(tmp_path: Path, shell: str, way: str) -> None:
    machine = Machine(tmp_path / "m")
    machine.add_stick()
    machine.add_history(sealed=True)
    corrupt_newest_layer(machine)  # the kernel, not init, would find it when it reads the block
    assert machine.boot(shell, f"ramos.restore={way}")["lower"] == FULL
    machine.write("calls", "")
    report = machine.boot(shell, f"ramos.restore={way} ramos.verify=full")
    assert report["lower"] == ONE


def test_layer_with_another_seal_is_skipped(tmp_path: Path, shell: str) -> None:
    machine = Machine(tmp_path / "m")
    machine.add_stick()
    machine.add_history(sealed=True)
    machine.write(f"persist/{layer_path(machine, 'second layer')}.verity", "0" * 64)
    report = machine.boot(shell)
    assert report["generation"] == "2"
    assert "fs-verity" in report["skipped"]


def test_stick_that_comes_late_is_waited_for(tmp_path: Path, shell: str) -> None:
    machine = Machine(tmp_path / "m")
    machine.add_stick()
    machine.add_history()
    block = machine.root / "sys/class/block"
    late = machine.write(
        "on-tick",
        f"#!/bin/sh\n[ $(cut -d. -f1 {machine.root}/proc/uptime) -lt 7 ] || "
        f"mv {block}.away {block}\n",
    )
    late.chmod(0o755)
    block.rename(f"{block}.away")
    assert machine.boot(shell)["generation"] == "3"
    assert machine.read("calls").count("sleep") >= 3


def test_absent_stick_opens_a_shell_that_says_what_was_seen(tmp_path: Path, shell: str) -> None:
    machine = Machine(tmp_path / "m")
    machine.add_disk("sdb", {"sdb1": superblock(label="other", uuid="1" * 32)})
    report = machine.boot(shell)
    assert report["shell"].startswith("persist: no LABEL=ramos-persist within 30 s")
    assert "sdb sdb1" in report["shell"]


def test_missing_rootfs_opens_a_shell(machine: Machine, shell: str) -> None:
    (machine.root / "persist/rootfs.squashfs").unlink()
    assert machine.boot(shell)["shell"] == "base: rootfs.squashfs is missing on " + str(
        machine.root / "dev/sda2"
    )


def test_unmountable_rootfs_opens_a_shell(machine: Machine, shell: str) -> None:
    machine.write("broken", "persist/rootfs.squashfs")
    assert machine.boot(shell)["shell"] == "base: rootfs.squashfs cannot be mounted"


def test_system_without_init_opens_a_shell(machine: Machine, shell: str) -> None:
    (machine.root / "newroot/sbin/init").unlink()
    assert machine.boot(shell)["shell"] == "handover: there is no /sbin/init in the system"


def test_other_init_can_be_asked_for(machine: Machine, shell: str) -> None:
    machine.write("newroot/bin/sh", "")
    assert machine.boot(shell, "init=/bin/sh")["shell"] == ""


@pytest.mark.parametrize("step", ["drivers", "persist", "generation", "overlay", "handover"])
def test_break_opens_the_shell_before_a_step(machine: Machine, shell: str, step: str) -> None:
    report = machine.boot(shell, f"ramos.break={step}")
    assert report["shell"] == f"{step}: ramos.break={step} was given"
    assert report["lower"] == ("" if step != "handover" else FULL)


def test_the_booted_generation_is_copied(machine: Machine, shell: str) -> None:
    """For a save that finds it lost."""
    machine.boot(shell)
    booted = machine.read("persist/upperfs/generations/000003")
    assert machine.read("run/ramos/generation") == booted


def test_persist_and_esp_are_named(machine: Machine, shell: str) -> None:
    report = machine.boot(shell)
    assert report["persist"] == str(machine.root / "dev/sda2")
    assert report["persist_uuid"] == "0a1b2c3d-0e0f-4a4b-8c8d-00aa11bb22cc"
    assert report["esp_uuid"] == "A496-452F"


REPAIRS = [
    ("journal", {}, "", 0),
    ("preen", {"e2fsck.-p": "1 mends"}, "repaired by e2fsck -p", 1),
    ("force", {"e2fsck.-p": "4", "e2fsck.-fy": "1 mends"}, "repaired by e2fsck -fy", 2),
    ("no-use", {"e2fsck.-p": "1", "e2fsck.-fy": "1 mends"}, "repaired by e2fsck -fy", 2),
    ("hopeless", {"e2fsck.-p": "8", "e2fsck.-fy": "8"}, "", 2),
]


@pytest.mark.parametrize(("name", "files", "said", "checks"), REPAIRS, ids=[r[0] for r in REPAIRS])
def test_repair_ladder(
    machine: Machine, shell: str, name: str, files: dict[str, str], said: str, checks: int
) -> None:
    if name != "journal":
        machine.write("broken", "dev/sda2")
    for path, text in files.items():
        machine.write(path, text)
    report = machine.boot(shell)
    assert machine.read("calls").count("e2fsck") == checks
    if name == "hopeless":
        assert report["shell"].startswith("mount: ")
        assert "noload" in machine.read("calls")
    else:
        assert report["generation"] == "3"
        assert said in machine.read("run/ramos/motd")
