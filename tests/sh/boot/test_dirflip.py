"""A persist that mounts without a complaint, and lacks what a flipped bit in a directory hides."""

from pathlib import Path

import pytest

from tests.labs.harness import Machine, list_steps, run_verbs, superblock

# What is hidden comes back by the repair that is named in $R/helps.
REPAIR = """
e2fsck() {
    echo "e2fsck $1" >>"$R/calls"
    if [ "$1" = "$(cat "$R/helps")" ]; then
        cp -r "$R/hidden/." "$R/persist"
        return 1
    fi
    [ "$1" != -p ] || return 4
}
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "m")
    made.add_stick()
    made.add_history()
    made.write("helps", "-fy\n")
    return made


def hide(machine: Machine, *names: str) -> None:
    """As a directory block does whose checksum is wrong: its names are not listed."""
    for name in names:
        target = machine.root / "hidden" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (machine.root / "persist" / name).rename(target)


def boot(machine: Machine, shell: str) -> dict[str, str]:
    machine.write("proc/cmdline", "console=ttyS0\n")
    done = run_verbs(shell, machine.root, REPAIR + list_steps())
    assert done.stderr == ""
    lines = machine.read("run/ramos/boot").splitlines()
    report = dict(line.split("=", 1) for line in lines)
    calls = machine.read("calls").splitlines()
    report["checks"] = " ".join(line[7:] for line in calls if line.startswith("e2fsck "))
    return report


def list_layers(machine: Machine) -> list[str]:
    folder = machine.root / "persist/upperfs/layers"
    return [f"upperfs/layers/{path.name}" for path in folder.iterdir()]


@pytest.mark.parametrize(
    "names", [["rootfs.squashfs"], ["upperfs/generations"], ["upperfs/layers"], ["upperfs"]]
)
def test_dirflip_is_repaired_and_the_newest_generation_boots(
    machine: Machine, shell: str, names: list[str]
) -> None:
    if names == ["upperfs"]:
        names = ["upperfs", "rootfs.squashfs"]
    hide(machine, *names)
    report = boot(machine, shell)
    assert (report["generation"], report["checks"]) == ("3", "-fy")
    assert "lacks" in machine.read("run/ramos/boot.log")
    assert "repaired by e2fsck -fy" in machine.read("run/ramos/motd")


def test_dirflip_that_hides_one_layer_of_the_newest_generation(
    machine: Machine, shell: str
) -> None:
    hide(machine, list_layers(machine)[0])
    assert boot(machine, shell)["generation"] == "3"


def test_dirflip_that_only_the_kernel_has_seen(machine: Machine, shell: str) -> None:
    machine.write("sys/fs/ext4/sda2/errors_count", "2\n")
    assert boot(machine, shell)["checks"] == "-fy"


def test_sound_stick_is_not_checked_for_a_dirflip(machine: Machine, shell: str) -> None:
    machine.write("sys/fs/ext4/sda2/errors_count", "0\n")
    report = boot(machine, shell)
    assert (report["generation"], report["checks"]) == ("3", "")
    assert machine.read("run/ramos/motd") == ""


def test_dirflip_that_no_repair_mends_is_said(machine: Machine, shell: str) -> None:
    machine.write("helps", "nothing\n")
    hide(machine, *(f"upperfs/generations/{number:06d}" for number in (1, 2, 3)))
    report = boot(machine, shell)
    assert (report["mode"], report["generation"], report["checks"]) == ("clean", "0", "-fy")
    greeting = machine.read("run/ramos/motd")
    assert "lacks every generation, which e2fsck did not bring back" in greeting
    assert "holds layers, but no generation that could be read" in greeting


@pytest.mark.parametrize(("helps", "checks"), [("-p", "-p"), ("-fy", "-p -fy")])
def test_recorded_errors_are_mended_before_a_dirflip_hides_anything(
    tmp_path: Path, shell: str, helps: str, checks: str
) -> None:
    machine = Machine(tmp_path / "m")
    machine.add_stick(superblock(state=3))
    machine.add_history()
    machine.write("helps", f"{helps}\n")
    machine.write("hidden/x", "")
    report = boot(machine, shell)
    assert (report["generation"], report["checks"]) == ("3", checks)
