"""What users of the machine cannot reach around the root: as init mounts it, on a fake machine."""

import pytest

from tests.labs.harness import Machine


@pytest.mark.parametrize("state", ["whole", "broken"])
def test_hostile_users_find_no_way_around_the_root(
    machine: Machine, shell: str, state: str
) -> None:
    """No setuid program or device from persist, and nothing of the upper but through `/`."""
    if state == "broken":
        machine.write("broken", "errors=remount-ro")  # only the mount without it succeeds
    machine.boot(shell, "ramos.upper=tmpfs")
    calls = machine.read("calls").splitlines()
    mounts = [line for line in calls if line.startswith("mount -t ext4")]
    assert mounts
    assert all("nosuid,nodev" in line for line in mounts)
    assert any("mode=700" in line for line in calls if "ramos-upper" in line)
    assert (machine.root / "run/ramos/layers").stat().st_mode & 0o777 == 0o700


def test_hostile_users_do_not_reach_an_upper_on_zram(machine: Machine, shell: str) -> None:
    machine.boot(shell, "ramos.upper=zram")
    assert "mount -t btrfs" in machine.read("calls")
    assert (machine.root / "run/ramos/upper").stat().st_mode & 0o777 == 0o700
