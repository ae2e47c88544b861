"""How long a boot takes: `python bench/boot.py IMAGE [--runs 5] [--json]`.

Three ways from the same kernel on the same machine, in turns, so that what else the machine does
hits all of them alike: a bare kernel with a BusyBox initramfs that only says hello; RAMOS from the
image; Debian's live-boot with the image's own root tree, compressed the same way. All boot directly
from a virtual disk. Medians of seconds, and of the seconds of processor time that QEMU took: on a
busy machine the second is the one to trust.

live-boot is installed from Debian's mirror into a copy of the tree, once for each image: that
takes root, the network and some 2 minutes, and is kept in .cache/bench-boot/.
"""

import argparse
import json
import os
import shutil
import stat
import statistics
import struct
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from ramos import layout
from ramos.linux import cpio, fs, run
from ramos.vm import accelerator, firmware
from ramos.vm.machine import Machine, start_machine
from ramos.vm.qemu import VmPlan

CACHE = REPOSITORY / ".cache" / "bench-boot"
DEVICES = {"null": 3, "zero": 5, "random": 8, "urandom": 9}
LIVE_PACKAGES = ("live-boot", "live-boot-initramfs-tools", "initramfs-tools", "busybox", "zstd")
LINUX_TYPE = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
VERBOSE = ("loglevel=7", "printk.time=1")
HELLO = """#!/bin/busybox sh
/bin/busybox echo HELLO
/bin/busybox poweroff -f
"""
# The marks of a boot, in order: what the serial line says when they are reached.
MARKS = {
    "init": r"\[ *(\d+\.\d+)\] Run /init as init process",
    "switch_root": r"INIT: version|systemd\[1\]: systemd \S+ running|OpenRC \S+ is starting up",
    "login": r"\S+ login: ",
}


@dataclass(frozen=True)
class Boot:
    """One measured boot: seconds since the kernel started, and QEMU's processor seconds."""

    way: str
    init: float
    switch_root: float = 0.0
    login: float = 0.0
    cpu_switch_root: float = 0.0
    cpu_login: float = 0.0


def measure(way: str, plan: VmPlan, marks: Iterable[str], kvm: bool) -> Boot:
    """Boot once."""
    with start_machine(plan, kvm=kvm) as machine:
        boot = watch(way, machine, marks)
        machine.power_cut()
    return boot


def watch(way: str, machine: Machine, marks: Iterable[str]) -> Boot:
    """The kernel's own clock tells when init starts; the marks follow from there."""
    values: dict[str, float] = {}
    usage = psutil.Process(machine.process.pid)
    match = machine.expect(MARKS["init"])
    values["init"], reached = float(match[1]), time.monotonic()
    for mark in marks:
        machine.expect(MARKS[mark])
        values[mark] = values["init"] + time.monotonic() - reached
        values[f"cpu_{mark}"] = usage.cpu_times().user + usage.cpu_times().system
    return Boot(way, **values)


def find_persist(image: Path) -> int:
    """Where persist starts in an image, in bytes: the largest Linux partition of its GPT."""
    with image.open("rb") as file:
        file.seek(firmware.SECTOR_BYTES)
        first, count, size = struct.unpack_from("<QII", file.read(92), 72)
        file.seek(first * firmware.SECTOR_BYTES)
        table = file.read(count * size)
    found = []
    for start in range(0, len(table), size):
        if table[start : start + 16] == LINUX_TYPE.bytes_le:
            low, high = struct.unpack_from("<QQ", table, start + 32)
            found.append((high - low, low * firmware.SECTOR_BYTES))
    return int(max(found)[1])


def dump_tree(image: Path, kernel: str, work: Path) -> Path:
    """The image's root tree with its modules and firmware, as one directory."""
    tree = work / "tree"
    persist = f"{image}?offset={find_persist(image)}"
    for name in (layout.ROOTFS_IMAGE, layout.FIRMWARE_IMAGE, layout.modules_image(kernel)):
        part = work / name
        run.run(["debugfs", "-R", f"dump /{name} {part}", persist])
        if part.stat().st_size:
            run.run(["unsquashfs", "-f", "-no-progress", "-d", tree, part])
        part.unlink()
    return tree


def install_live_boot(tree: Path, kernel: str) -> None:
    """Debian's own packages, and an initramfs by Debian's own tool."""
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf", follow_symlinks=True)
    for name in ("proc", "sys", "dev", "run", "tmp"):
        (tree / name).mkdir(exist_ok=True)
    for name, minor in DEVICES.items():
        if not (tree / "dev" / name).exists():
            os.mknod(tree / "dev" / name, stat.S_IFCHR, os.makedev(1, minor))
            (tree / "dev" / name).chmod(0o666)
    for rule in (tree / "etc/apt").rglob("*ramos*"):
        rule.unlink()
    apt: list[run.Arg] = ["chroot", tree, "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    env = {"DEBIAN_FRONTEND": "noninteractive", "INITRD": "No"}
    run.run([*apt, "update"], env=env)
    run.run([*apt, "install", "-y", "--no-install-recommends", *LIVE_PACKAGES], env=env)
    # mkinitramfs reads it to learn which compressions the kernel knows.
    (tree / f"boot/config-{kernel}").write_text("CONFIG_RD_ZSTD=y\n")
    run.run(["chroot", tree, "mkinitramfs", "-o", "/boot/initrd", kernel], env=env)


def provide_live(image: Path, kernel: str) -> tuple[Path, Path]:
    """A disk and an initramfs for live-boot, of the image's own tree."""
    place = CACHE / fs.hash_file(image)[:16]
    disk, initrd = place / "live.img", place / "initrd"
    if disk.exists():
        return disk, initrd
    print("installing live-boot into a copy of the root tree ...", file=sys.stderr)
    shutil.rmtree(CACHE, ignore_errors=True)
    place.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="ramos-bench-", dir=CACHE) as name:
        work = Path(name)
        tree = dump_tree(image, kernel, work)
        install_live_boot(tree, kernel)
        shutil.copy(tree / "boot/initrd", initrd)
        (tree / "boot/initrd").unlink()
        live = work / "disk" / "live"
        live.mkdir(parents=True)
        squash: list[run.Arg] = [
            "mksquashfs",
            tree,
            live / "filesystem.squashfs",
            "-no-progress",
            "-quiet",
        ]
        run.run([*squash, "-comp", "zstd", "-Xcompression-level", "3"])
        part = place / "live.part"
        run.run(["mke2fs", "-q", "-t", "ext4", "-d", work / "disk", part, "1G"])
        part.rename(disk)
    return disk, initrd


def write_hello(path: Path) -> Path:
    """An initramfs that holds BusyBox and a hello."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    archive = cpio.Archive()
    archive.add_file("bin/busybox", Path(busybox).read_bytes(), 0o755)
    archive.add_file("init", HELLO.encode(), 0o755)
    archive.add_character_device("dev/console", 5, 1)
    path.write_bytes(archive.render())
    return path


def list_ways(image: Path, bus: str, scratch: Path) -> dict[str, tuple[VmPlan, tuple[str, ...]]]:
    """The three machines, and up to which mark each is watched."""
    kernel = firmware.read_direct_kernel(image, scratch)
    disk, initrd = provide_live(image, kernel.kernel)
    hello = replace(kernel, initramfs=write_hello(scratch / "hello"), parameters="")
    live = replace(kernel, initramfs=initrd, parameters="boot=live")
    ramos = VmPlan(image, firmware="direct", parameters=VERBOSE, kernel=kernel)
    ramos = replace(ramos, bus="usb" if bus == "usb" else "virtio")
    return {
        "bare": (replace(ramos, kernel=hello), ()),
        "ramos": (ramos, ("switch_root", "login")),
        "live-boot": (replace(ramos, image=disk, kernel=live), ("switch_root", "login")),
    }


def tell(line: str) -> None:
    """A word on the way; what was measured is all that goes to standard output."""
    print(line, file=sys.stderr)


def run_all(image: Path, runs: int, bus: str, accel: accelerator.Accel) -> list[Boot]:
    """Every way in turns."""
    boots = []
    with tempfile.TemporaryDirectory(prefix="ramos-bench-") as name:
        scratch = Path(name)
        ways = list_ways(image, bus, scratch)
        kvm = accelerator.choose_kvm(ways["ramos"][0], accel, tell)
        for number in range(runs):
            for way, (plan, marks) in ways.items():
                tell(f"run {number + 1} of {runs}: {way}")
                boots.append(measure(way, plan, marks, kvm))
    return boots


def take_medians(boots: list[Boot]) -> list[Boot]:
    """One line for each way."""
    medians = []
    for way in dict.fromkeys(boot.way for boot in boots):
        rows = [asdict(boot) for boot in boots if boot.way == way]
        columns = [name for name in rows[0] if name != "way"]
        values = {name: statistics.median(row[name] for row in rows) for name in columns}
        medians.append(Boot(way, **values))
    return medians


def print_table(medians: list[Boot], runs: int) -> None:
    """A table for people, and the two ratios that matter."""
    print(f"Medians of {runs} alternating runs; seconds since the kernel started\n")
    print(
        "| | init | switch_root | login | init to switch_root | CPU s to switch_root | to login |"
    )
    print("|---|---|---|---|---|---|---|")
    for boot in medians:
        inside = boot.switch_root - boot.init
        cells = [boot.switch_root, boot.login, inside, boot.cpu_switch_root, boot.cpu_login]
        words = [f"{cell:.1f}" if boot.login else "" for cell in cells]
        print(f"| {boot.way} | {boot.init:.1f} | {' | '.join(words)} |")
    bare, ramos, live = medians
    share = (ramos.switch_root - ramos.init) / (live.switch_root - live.init)
    print(f"\ninitramfs: {share:.2f} of live-boot's time", end="; ")
    print(f"PID 1 starts {ramos.init - bare.init:+.1f} s after the bare kernel's")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How long a boot takes.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bus", choices=["virtio", "usb"], default="virtio")
    parser.add_argument("--accel", choices=accelerator.ACCELS, default="auto")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    boots = run_all(arguments.image, arguments.runs, arguments.bus, arguments.accel)
    if arguments.json:
        rows = [asdict(boot) for boot in boots]
        print(json.dumps({"boots": rows, "medians": [asdict(b) for b in take_medians(boots)]}))
    else:
        print_table(take_medians(boots), arguments.runs)


if __name__ == "__main__":
    main()
