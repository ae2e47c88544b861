"""The private mount namespace of the root tests really is one."""

import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize("turn", [1, 2])
def test_mount_of_a_test_does_not_outlive_it(
    turn: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.getbasetemp() / "mountpoint"
    place.mkdir(exist_ok=True)
    assert not (place / "seen").exists(), f"turn {turn} sees the mount of an earlier one"
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    (place / "seen").touch()


def test_no_mount_reaches_the_host(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    assert str(tmp_path) in Path("/proc/self/mounts").read_text()
    assert str(tmp_path) not in Path("/proc/1/mounts").read_text()
