"""An image that came the whole Alpine way boots, and saves itself: mirror, apk, inittab, OpenRC.

The mirror is the tests' own (see tests/alpine_donor.py for what is Alpine's in it and what not).
"""

import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from ramos import kmod, vm_machine
from ramos.cli.image import default_cache
from ramos.image.plan import read_package_list
from ramos.vm_machine import Machine
from tests import alpine_donor, alpine_mirror, alpine_root
from tests.alpine_mirror import Mirror, Spec
from tests.vm.conftest import IMAGES, REPOSITORY, USER, Boot, hash_sources

# A way down, a save and a way up, on a host that may be busy.
LOGIN_SECONDS = 480
SECTIONS = ("minimal", "lts", "firmware-none")


def make_mirror(directory: Path) -> Mirror:
    """Packages that boot, and an empty one for every other name of the minimal profile."""
    donor = alpine_donor.find_donor(default_cache())
    specs = alpine_donor.list_donor_specs(donor, directory / "real")
    known = {spec.name for spec in specs}
    names = [name for name in read_package_list("alpine", SECTIONS) if name not in known]
    specs += [Spec(name) for name in names]
    return alpine_mirror.make_mirror(directory, specs, tool=alpine_root.provide_apk(directory))


@pytest.fixture(scope="session")
def alpine_image(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """A minimal Alpine image; the Debian image was built before, so its root tree is there."""
    output = IMAGES / f"alpine-{hash_sources()}.img"
    with filelock.FileLock(IMAGES / "lock-alpine"):
        if output.exists():
            return output
        for stale in IMAGES.glob("alpine-*.img"):
            stale.unlink()
        work = tmp_path_factory.mktemp("alpine")
        print(f"static apk: {alpine_mirror.name_tools()}")
        mirror = make_mirror(work)
        argv: list[str | Path] = [
            sys.executable,
            "-m",
            "ramos",
            "image",
            "build",
            "--batch",
            "--base",
            "alpine",
        ]
        argv += ["--profile", "minimal", "--mirror", mirror.path, "--keys", mirror.keys]
        argv += ["--cache", work / "cache", "--console", "ttyS0", "--output", output]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "doas is allowed" in done.stdout
        return output


def log_in(machine: Machine) -> None:
    """Become the user, without a password, in a shell with a prompt that the tests know."""
    machine.expect(r"ramos login: ", LOGIN_SECONDS)
    machine.serial.send(f"{USER}\n")
    machine.expect(r"~ \$ ")
    machine.serial.send("PS1='$ '\n")
    machine.open_shell()


def test_alpine_image_boots_and_saves_itself(
    alpine_image: Path, tmp_path: Path, boot: Boot
) -> None:
    disk = vm_machine.make_overlay(alpine_image, "raw", tmp_path / "stick.qcow2")
    # BusyBox's modprobe is loud on the console about gzipped modules, before it unpacks them.
    with boot(disk, parameters=("loglevel=1",)) as machine:
        log_in(machine)
        state = machine.check_shell("cat /run/ramos/boot")
        assert "mode=default\n" in state
        assert "upper=zram" in state
        assert "skipped=" not in state
        assert machine.check_shell("cat /proc/1/comm") in ("linuxrc", "init")
        kernel = machine.check_shell("uname -r")
        assert ".ko.gz" in machine.check_shell(f"cat /lib/modules/{kernel}/modules.dep")
        assert "linux-lts" in machine.check_shell("cat /etc/apk/world").split()
        machine.check_shell("test ! -e /boot/initramfs-lts")
        # In the default runlevel, by the links that the builder made.
        machine.check_shell("until ps | grep -q '[/]ramosd'; do sleep 0.2; done")
        machine.check_shell("echo kept >~/note")
        # init's own way down: inittab, the runlevel `shutdown`, the save.
        machine.qmp.run_monitor("sendkey ctrl-alt-delete")
        machine.expect(r"RAMOS: default, generation 2, ", LOGIN_SECONDS)
        log_in(machine)
        assert machine.check_shell("cat ~/note") == "kept"
        assert "generation=2\n" in machine.check_shell("cat /run/ramos/boot")


def test_mkinitfs_would_take_every_module_of_the_builder(alpine_image: Path) -> None:  # noqa: ARG001
    """The globs of the feature file against a real kernel's tree, read as mkinitfs reads them."""
    donor = alpine_donor.find_donor(default_cache())
    folder = next((donor / "usr/lib/modules").iterdir())
    feature = REPOSITORY / "initramfs-hooks/mkinitfs/features.d/ramos.modules"
    lines = [line for line in feature.read_text().split("\n") if line and line[0] != "#"]
    chosen: set[str] = set()
    for line in lines:
        paths = list(folder.glob(line))
        found = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
        chosen |= {kmod.module_name(file.name) for file in found if ".ko" in file.name}
    modules = kmod.load(donor, folder.name)
    wanted = {kmod.normalize(word) for word in " ".join(alpine_donor.MODULE_LISTS).split()}
    assert wanted & modules.files.keys() <= modules.close(chosen)
