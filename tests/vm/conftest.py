"""Images and machines for the VM tests.

An image is built once for each state of the sources, under a lock, whichever worker comes first;
what a test boots is always an overlay of it. Two machines at a time, one processor each, is what
costs least.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from ramos.image.identity import plan_changes
from ramos.image.partitions import Identifiers, make_identity
from ramos.vm import accelerator, qemu
from ramos.vm.machine import Machine, make_overlay, start_machine
from ramos.vm.qemu import VmPlan
from tests.labs import alpine
from tests.labs.alpine_mirror import Mirror

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = REPOSITORY / ".cache" / "test-image"
SOURCES = ("ramos", "initramfs-hooks", "grub", "services", "apk-triggers", "man", "keys")
IGNORED = {"__pycache__"}
USER = "user"
MEMORY_MIB = 768
# What listens, or brings something along that does, where nobody sees to it.
PACKAGES = {"openrc": (), "systemd": ("--packages", "nfs-common")}
BUILD = ("image", "build", "--batch", "--base", "debian", "--profile", "minimal", "--swap", "16M")

# What a generation says of each file, and what the kernel enforces for it.
ASK = """
import sys
from pathlib import Path
from ramos.store import generations
from ramos.linux import verity
persist = Path("/persist")
for file in generations.read_generation(persist, int(sys.argv[1])).files:
    print(file.kind, file.verity, verity.measure_verity(persist / file.path) or "unsealed")
"""

Boot = Callable[..., contextlib.AbstractContextManager[Machine]]


def hash_sources() -> str:
    """A key that changes with anything that an image is made of."""
    digest = hashlib.sha256(repr((BUILD, PACKAGES)).encode())
    for folder in SOURCES:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.is_file() and not IGNORED & set(path.parts):
                digest.update(f"{path.relative_to(REPOSITORY)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def provide_image(init: str) -> Path:
    """The minimal Debian image with that init system, for the sources as they are now.

    RAMOS_TEST_IMAGES names a folder with <init>.img to use in its place, while tests are written.
    """
    if "RAMOS_TEST_IMAGES" in os.environ:
        return Path(os.environ["RAMOS_TEST_IMAGES"]) / f"{init}.img"
    IMAGES.mkdir(parents=True, exist_ok=True)
    image = IMAGES / f"{init}-{hash_sources()}.img"
    with filelock.FileLock(IMAGES / "lock"):
        if image.exists():
            return image
        for stale in IMAGES.glob(f"{init}-*.img"):
            stale.unlink()
        argv = [sys.executable, "-m", "ramos", *BUILD, "--init", init, "--console", "ttyS0"]
        argv += PACKAGES[init]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [*argv, "--output", image], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return image


@pytest.fixture(scope="session")
def image() -> Path:
    """The image with OpenRC, which boots in half the time of the other."""
    return provide_image("openrc")


@pytest.fixture(scope="session")
def systemd_image() -> Path:
    """The image with systemd."""
    return provide_image("systemd")


def choose_kvm(image: Path, firmware: qemu.Firmware = "uefi") -> bool:
    """Whether to use KVM: only on request, so that every run of the tests sees the same machine."""
    accel: accelerator.Accel = "auto" if os.environ.get("RAMOS_TEST_KVM") == "1" else "tcg"
    plan = VmPlan(image, firmware=firmware, memory_mib=MEMORY_MIB, flush=False)
    return accelerator.choose_kvm(plan, accel, print)


def provide_alpine(lab: Mirror) -> Path:
    """The minimal image of the real Alpine, from the mirror of the tests."""
    image = IMAGES / f"alpine-{hash_sources()}-{lab.path.name}.img"
    with filelock.FileLock(IMAGES / "lock-alpine"):
        if not image.exists():
            for stale in IMAGES.glob("alpine-*.img"):
                stale.unlink()
            print("\n".join(alpine.describe()))
            build_alpine(lab, image)
        return image


def build_alpine(lab: Mirror, output: Path, *words: str | Path) -> None:
    """What a user would type, with a folder for a mirror."""
    argv = [sys.executable, "-m", "ramos", "image", "build", "--batch", "--base", "alpine"]
    argv += ["--profile", "minimal", "--kernel", "virt", *map(str, words), "--console", "ttyS0"]
    argv += ["--mirror", str(lab.path), "--keys", str(lab.keys)]
    argv += ["--cache", str(IMAGES / "alpine-cache"), "--output", str(output)]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def lab() -> Mirror:
    """A mirror of Alpine's packages, its kernel among them."""
    return alpine.provide_lab()


@pytest.fixture(scope="session")
def alpine_image(lab: Mirror) -> Path:
    """The image with Alpine."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    return provide_alpine(lab)


@pytest.fixture
def alpine_disk(alpine_image: Path, tmp_path: Path) -> Path:
    """A stick of one test with Alpine on it."""
    return make_overlay(alpine_image, "raw", tmp_path / "alpine.qcow2")


@pytest.fixture(scope="session")
def has_kvm(request: pytest.FixtureRequest) -> bool:
    """Whether to use KVM; an image is needed only to find that out."""
    if os.environ.get("RAMOS_TEST_KVM") != "1":
        return False
    return choose_kvm(request.getfixturevalue("image"))


def give_identity(raw: Path) -> Identifiers:
    """What `ramos image write` changes in each stick that it writes."""
    fresh = make_identity("")
    with raw.open("r+b") as file:
        for offset, data in plan_changes(raw, fresh):
            file.seek(offset)
            file.write(data)
    return fresh


@pytest.fixture
def disk(image: Path, tmp_path: Path) -> Path:
    """A stick of one test: an overlay of the image that keeps what is written."""
    return make_overlay(image, "raw", tmp_path / "stick.qcow2")


@pytest.fixture
def boot(has_kvm: bool) -> Boot:
    """Start a machine from an overlay; `parameters` are for direct boots."""

    @contextlib.contextmanager
    def start(disk: Path, firmware: str = "direct", **options: Any) -> Iterator[Machine]:
        options.setdefault("memory_mib", MEMORY_MIB)
        plan = VmPlan(disk, "qcow2", firmware=firmware, flush=False, **options)  # type: ignore[arg-type]
        with start_machine(plan, snapshot=False, kvm=has_kvm) as machine:
            yield machine

    return start


def come_up(machine: Machine) -> None:
    """Log in, and wait until ramosd is at work; on a busy host each of these takes minutes."""
    machine.expect("OpenRC .* is starting up")
    machine.login(USER)
    machine.check_shell("until grep -qs present /run/ramos/ramosd.json; do sleep 1; done", 240)


def list_open_ports(machine: Machine) -> list[str]:
    """What other machines can reach, but for the client of DHCP: protocol and local address."""
    found = []
    for row in machine.check_shell("ss -Hlntu").splitlines():
        protocol, _, _, _, local, *_ = row.split()
        address, _, port = local.rpartition(":")
        if not address.strip("[]").startswith(("127.", "::1")) and port not in ("68", "546"):
            found.append(f"{protocol} {local}")
    return found


def ask_seals(machine: Machine, generation: int) -> dict[str, str]:
    """The digests that the kernel enforces, by the kind of file; each is the recorded one."""
    machine.write_file("/tmp/ask.py", ASK.encode())
    command = f"PYTHONPATH=/usr/lib/ramos python3 /tmp/ask.py {generation}"
    rows = machine.check_shell(command).splitlines()
    seals = {}
    for kind, recorded, measured in (row.split() for row in rows):
        assert measured in (recorded, "unsealed"), rows
        seals[kind] = measured
    return seals
