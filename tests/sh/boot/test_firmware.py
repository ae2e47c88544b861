"""Packages that bring firmware make a new image: each generation boots with the one it names."""

from pathlib import Path

import pytest

from tests.labs.harness import SHELLS, Machine

NEW = "firmware-0123456789ab.squashfs"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("cmdline", "mounted"),
    [("", NEW), ("ramos.generation=1", "firmware.squashfs"), ("ramos.mode=clean", NEW)],
)
def test_the_generation_names_the_firmware(
    tmp_path: Path, shell: str, cmdline: str, mounted: str
) -> None:
    machine = Machine(tmp_path / "m")
    machine.add_stick()
    machine.write(f"persist/{NEW}", "newer firmware")
    machine.add_generation(1, 0)
    machine.add_generation(2, 1, firmware=NEW)
    report = machine.boot(shell, cmdline)
    assert report["shell"] == ""
    assert report["errors"] == ""
    calls = [line for line in machine.read("calls").splitlines() if "/firmware" in line]
    assert [line for line in calls if f"persist/{mounted} " in line]
    assert not machine.read("run/ramos/motd").count("firmware")


@pytest.mark.parametrize("shell", SHELLS)
def test_without_the_named_firmware_the_built_one_serves(tmp_path: Path, shell: str) -> None:
    machine = Machine(tmp_path / "m")
    machine.add_stick()
    image = machine.write(f"persist/{NEW}", "newer firmware")
    machine.add_generation(1, 0, firmware=NEW)
    image.unlink()
    machine.boot(shell)
    assert "persist/firmware.squashfs " in machine.read("calls")
