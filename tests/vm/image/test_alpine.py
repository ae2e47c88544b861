"""An image that came the whole Alpine way boots, and saves itself: mirror, apk, inittab, OpenRC.

The mirror is the tests' own (tests/labs/alpine_donor.py says what is Alpine's in it and what not).
"""

import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from ramos.cli.image import default_cache
from ramos.image.plan import read_package_list
from ramos.linux import kmod
from ramos.vm import machine as vm_machine
from ramos.vm.machine import Machine
from tests.labs import alpine_donor, alpine_mirror, alpine_root, kernelmirror
from tests.labs.alpine_mirror import Mirror, Spec
from tests.vm.conftest import IMAGES, REPOSITORY, USER, Boot, hash_sources
from tests.vm.packages.test_packages import await_good, restart_into

# A way down, a save and a way up, on a host that may be busy.
LOGIN_SECONDS = 480
NEWER = "6.1.99-r0"
SECTIONS = ("minimal", "lts", "firmware-none")


def make_mirror(directory: Path) -> Mirror:
    """Packages that boot, and an empty one for every other name of the minimal profile."""
    donor = alpine_donor.find_donor(default_cache())
    specs = alpine_donor.list_donor_specs(donor, directory / "real")
    known = {spec.name for spec in specs}
    names = [name for name in read_package_list("alpine", SECTIONS) if name not in known]
    specs += [Spec(name) for name in names]
    return alpine_mirror.make_mirror(directory, specs, tool=alpine_root.provide_apk())


@pytest.fixture(scope="session")
def alpine_image(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """A minimal Alpine image; the Debian image was built before, so its root tree is there."""
    kind = "real-alpine" if alpine_root.TARBALL else "alpine"
    output = IMAGES / f"{kind}-{hash_sources()}.img"
    with filelock.FileLock(IMAGES / "lock-alpine"):
        if output.exists():
            return output
        for stale in IMAGES.glob(f"{kind}-*.img"):
            stale.unlink()
        work = tmp_path_factory.mktemp("alpine")
        print(f"static apk: {alpine_root.name_tools()}")
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
    """Become the user, without a password, then root."""
    machine.expect(r"ramos login: ", LOGIN_SECONDS)
    machine.serial.send(f"{USER}\n")
    machine.open_shell("exec sudo -n sh")


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
        machine.check_shell(f"echo kept >/home/{USER}/note")
        # init's own way down: inittab, the runlevel `shutdown`, the save.
        machine.qmp.run_monitor("sendkey ctrl-alt-delete")
        machine.expect(r"RAMOS: default, generation 2, ", LOGIN_SECONDS)
        log_in(machine)
        assert machine.check_shell(f"cat /home/{USER}/note") == "kept"
        assert "generation=2\n" in machine.check_shell("cat /run/ramos/boot")


def make_newer(directory: Path) -> tuple[Mirror, str]:
    """A mirror with a newer linux-lts, which is another of Debian's kernels; and its release."""
    kernel = kernelmirror.find_other_kernel()
    tree = directory / "tree"
    tree.mkdir(parents=True)
    subprocess.run(["dpkg-deb", "-x", kernelmirror.provide_kernel(kernel), tree], check=True)
    subprocess.run(["depmod", "-b", tree, kernel], check=True)
    specs = [
        alpine_donor.make_kernel(tree, NEWER),
        Spec("htop", {"usr/bin/htop": b"#!/bin/sh\necho monitor\n"}),
    ]
    return alpine_mirror.make_mirror(directory, specs, key_name="test-2.rsa"), kernel


def connect(machine: Machine, mirror: Mirror, port: int) -> None:
    """By hand: the service for it is not among the test's packages."""
    machine.check_shell("modprobe virtio_net; ip link set lo up; ip link set eth0 up")
    machine.check_shell("udhcpc -i eth0 -q -n -t 10")
    key = next(mirror.keys.iterdir())
    machine.write_file(f"/etc/apk/keys/{key.name}", key.read_bytes())
    source = f"http://10.0.2.2:{port}/{alpine_mirror.BRANCH}/main"
    machine.check_shell(f"echo {source} >/etc/apk/repositories")


def upgrade(machine: Machine, old: str, new: str) -> None:
    """As a user does it, with apk alone; then what must not bring the mirror's package back."""
    status, said = machine.shell("apk del linux-lts")
    assert (status, f"cannot remove kernel: {old}: it is the last kernel" in said) == (2, True)
    machine.check_shell("apk update && apk add htop")
    assert machine.check_shell("htop") == "monitor"
    assert "linux-lts: a kernel" in machine.check_shell("apk add --simulate linux-lts")
    assert f"linux-lts 6.1.0-r56 -> {NEWER}" in machine.check_shell("ramos pkg check")
    said = machine.check_shell("apk upgrade", 300)
    assert f"kernel {new} is tried at the next boot; if it fails, the old one is back" in said
    machine.check_shell("apk upgrade -a && apk fix && apk fix linux-lts && apk audit", 300)
    assert "linux-lts@ramos" in machine.check_shell("cat /etc/apk/world").split()
    told = machine.check_shell("ramos pkg list")
    assert f"linux-lts {NEWER}  linux-alpine\n" in told
    assert f"kernel {old}  running, known to boot" in told
    assert f"kernel {new}  on trial" in told
    assert machine.check_shell("uname -r; modprobe dummy; rmmod dummy") == old


@pytest.mark.skipif(not alpine_root.TARBALL, reason="needs a real Alpine: RAMOS_ALPINE_ROOT")
def test_a_newer_kernel_comes_by_apk_and_is_kept(
    alpine_image: Path, tmp_path: Path, boot: Boot
) -> None:
    disk = vm_machine.make_overlay(alpine_image, "raw", tmp_path / "stick.qcow2")
    mirror, new = make_newer(tmp_path / "newer")
    with (
        kernelmirror.serve_folder(mirror.path) as port,
        boot(disk, firmware="bios", bus="usb", network=True) as machine,
    ):
        log_in(machine)
        old = machine.check_shell("uname -r")
        connect(machine, mirror, port)
        upgrade(machine, old, new)
        restart_into(machine, new)
        log_in(machine)
        assert machine.check_shell("uname -r; modprobe dummy; rmmod dummy") == new
        assert machine.check_shell("modinfo -n dummy").startswith(f"/lib/modules/{new}/")
        await_good(machine, new)
        assert machine.check_shell("htop") == "monitor"
        status, said = machine.shell("apk del linux-lts")
        assert (status, f"kernel: {new}: it is the one that runs now" in said) == (2, True)


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
