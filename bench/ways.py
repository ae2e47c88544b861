"""The ways of saving that `bench.commit` compares; each takes a machine and the mounted target.

Owns: one function for each way. `plain` is the usual procedure: a full squashfs in RAM, a test
mount, the old image copied to the backup, the new one to the default. `tar` is what lbu does,
`rsync` what antiX does. All end with everything flushed to the device.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.measure import flush_file_system, read_private_bytes
from tests.crash import mounts
from tests.crash.machine import Machine

ENGINE = "ramos"
REPOSITORY = Path(__file__).resolve().parents[1]
SQUASH = ("-noappend", "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "3")
# Program -> Debian's package of it.
TOOLS = {
    "mkfs.btrfs": "btrfs-progs",
    "mke2fs": "e2fsprogs",
    "mksquashfs": "squashfs-tools",
    "rsync": "rsync",
    "tar": "tar",
    "zstd": "zstd",
}
Notes = dict[str, float]
Way = Callable[[Machine, Path], Notes]


def read_children_bytes() -> int:
    """What the processes that we started hold in RAM (we ourselves hold the same all the time)."""
    return read_private_bytes(os.getpid())


def save_with_engine(machine: Machine, _persist: Path, action: str = "commit") -> Notes:
    """`ramos commit` in a process of its own, Python's start included."""
    command = [sys.executable, "-m", "tests.crash.drive", str(machine.home), action]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    report = json.loads(done.stdout)
    names = ("seconds", "pause_seconds", "layer_bytes", "written_bytes", "changed_bytes", "files")
    return {name: report[name] for name in names}


def save_plainly(machine: Machine, persist: Path) -> Notes:
    """Everything into a new squashfs; the old one becomes the backup."""
    new = machine.places.run / "new.squashfs"
    target = machine.places.run / "test"
    target.mkdir(exist_ok=True)
    subprocess.run(["mksquashfs", machine.places.upper_dir, new, *SQUASH], check=True)
    with mounts.mounted(new, target, "squashfs", "", mounts.MS_RDONLY):
        os.listdir(target)
    default, backup = persist / "upperfs.squashfs", persist / "upperfs-backup.squashfs"
    if default.exists():
        shutil.copyfile(default, backup)
    shutil.copyfile(new, default)
    flush_file_system(persist)
    new.unlink()
    return {}


def save_with_tar(machine: Machine, persist: Path) -> Notes:
    """Everything into one tar.gz under a new name."""
    new = persist / "upper.tar.gz.new"
    words: list[str | Path] = [
        "tar",
        "--xattrs",
        "--xattrs-include=*",
        "-czf",
        new,
        "-C",
        machine.places.upper_dir,
    ]
    subprocess.run([*words, "."], check=True)
    flush_file_system(persist)
    new.rename(persist / "upper.tar.gz")
    flush_file_system(persist)
    return {}


def save_with_rsync(machine: Machine, persist: Path) -> Notes:
    """Files in place, as they are."""
    source = f"{machine.places.upper_dir}/"
    subprocess.run(["rsync", "-aHX", "--delete", source, persist / "files"], check=True)
    flush_file_system(persist)
    return {}


WAYS: dict[str, Way] = {
    ENGINE: save_with_engine,
    "plain": save_plainly,
    "tar.gz": save_with_tar,
    "rsync": save_with_rsync,
}


def compress(files: list[Path], scratch: Path) -> int:
    """How small the changed files get by themselves, with the engine's compression."""
    archive = subprocess.run(["tar", "-cP", *sorted(set(files))], capture_output=True, check=True)
    packed = subprocess.run(
        ["zstd", "-3", "-c"], input=archive.stdout, capture_output=True, check=True, cwd=scratch
    )
    return len(packed.stdout)
