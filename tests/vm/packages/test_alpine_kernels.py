"""Kernels of the real Alpine change on a running stick, by `apk` alone, over HTTP.

The newer one is Alpine's own under the next release's name (tests/labs/alpine_kernel.py).
"""

from pathlib import Path

import pytest

from ramos.vm.machine import Machine
from tests.labs import alpine_kernel, alpine_mirror, kernelmirror
from tests.labs.alpine_mirror import Mirror
from tests.labs.interrupted import run_python
from tests.vm.conftest import Boot, come_up
from tests.vm.image.test_alpine import use_mirror
from tests.vm.packages.test_packages import (
    HANGS,
    SET_TRIES,
    await_good,
    await_start,
    check_running,
    check_told,
    restart_into,
)

NEW = alpine_kernel.NEW.release
VERSION = alpine_kernel.NEW.package_version


@pytest.fixture(scope="module")
def newer(lab: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Mirror:
    """A mirror with a newer linux-virt, signed as the lab is."""
    folder = tmp_path_factory.mktemp("newer")
    mirror = Mirror(folder / "mirror", lab.key, lab.keys)
    for repository in ("main", "community"):
        mirror.folder(repository).mkdir(parents=True)
    alpine_mirror.add_package(mirror, alpine_kernel.make_kernel(alpine_kernel.NEW))
    alpine_mirror.write_indexes(mirror)
    return mirror


def upgrade(machine: Machine, old: str) -> None:
    """As a user does it; then what must not bring the mirror's package back."""
    status, said = machine.shell("apk del linux-virt")
    assert (status, f"cannot remove kernel: {old}: it is the last kernel" in said) == (2, True)
    assert f"{alpine_kernel.OLD.package_version} -> {VERSION}" in machine.check_shell(
        "ramos pkg check"
    )
    said = machine.check_shell("apk upgrade", 300)
    assert f"kernel {NEW} is tried at the next boot; if it fails, the old one is back" in said
    machine.check_shell("apk upgrade -a && apk fix && apk fix linux-virt", 300)
    assert "linux-virt@ramos" in machine.check_shell("cat /etc/apk/world").split()
    assert f"kernel {NEW}  on trial" in machine.check_shell("ramos pkg list")
    check_running(machine, old)


def test_alpines_newer_kernel_is_kept_and_one_that_panics_given_up(
    alpine_disk: Path, newer: Mirror, boot: Boot
) -> None:
    with (
        kernelmirror.serve_folder(newer.path) as port,
        boot(alpine_disk, firmware="bios", bus="usb", network=True) as machine,
    ):
        come_up(machine)
        use_mirror(machine, port)
        upgrade(machine, machine.check_shell("uname -r"))
        restart_into(machine, NEW)
        come_up(machine)
        check_running(machine, NEW)
        await_good(machine, NEW)
        machine.check_shell(": >/persist/stood-still; : >/persist/hung")
        run_python(machine, HANGS)
        run_python(machine, SET_TRIES.format(1))
        restart_into(machine, f"{NEW}+2")
        machine.expect("Kernel panic - not syncing")
        await_start(machine, NEW)
        come_up(machine)
        check_running(machine, NEW)
        check_told(machine, f"{NEW}+2")
