"""What is cut short: steps on a store, with what the store held before and after each.

Owns: building a store on a fresh image and running the steps on it. A step is any function that
takes the mounted persist; `sequence` uses nothing but `ramos.fs`, as a unit under the engine.
"""

import hashlib
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ramos import fs, generation, layout
from ramos.generation import Generation, StoredFile
from tests.crash import mounts
from tests.crash.check import Truth, read_truth
from tests.crash.device import persist_mounted, plugged
from tests.crash.log import WriteLog

# Two block groups: the second holds the spare superblock that e2fsck repairs a torn one from.
IMAGE_BYTES = 192 << 20
MKE2FS = ("mke2fs", "-t", "ext4", "-q", "-F", "-b", "4096", "-O", "verity")
MKE2FS_EXTENDED = ("-E", "lazy_itable_init=0,lazy_journal_init=0")

Step = Callable[[Path], None]


@dataclass(frozen=True)
class Workload:
    """A store to begin with, and the steps that change it."""

    name: str
    build: Step
    steps: tuple[tuple[str, Step], ...]


@dataclass(frozen=True)
class Recording:
    """The log of a workload, and what the store held before the first step and after each."""

    log: WriteLog
    truths: list[Truth]


def make_image(path: Path, size_bytes: int = IMAGE_BYTES) -> None:
    """A fresh persist, as the image builder makes it."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run([*MKE2FS, *MKE2FS_EXTENDED, path], check=True, capture_output=True)


def record(workload: Workload, directory: Path) -> Recording:
    """Run a workload on a stick in `directory`; mounting and unmounting are in the log as well."""
    base, target = directory / "base", directory / "persist"
    target.mkdir(parents=True)
    make_image(base)
    with mounts.mounted(base, target):
        workload.build(target)
        truths = [read_truth(target)]
    with plugged(base, directory) as stick:
        with persist_mounted(stick, target) as persist:
            for name, step in workload.steps:
                stick.mark(f"begin {name}")
                step(persist)
                stick.mark(f"end {name}")
                truths.append(read_truth(persist))
        return Recording(stick.read_log(), truths)


def make_sequence(seed: int = 1) -> Workload:
    """Save, merge and roll back with nothing but the durable writes of `ramos.fs`."""
    chance = random.Random(seed)

    def build(persist: Path) -> None:
        for name in (layout.LAYERS_DIR, layout.GENERATIONS_DIR):
            (persist / name).mkdir(parents=True)
        data = chance.randbytes(1 << 20)
        (persist / layout.ROOTFS_IMAGE).write_bytes(data)
        base = StoredFile(
            "rootfs", layout.ROOTFS_IMAGE, len(data), hashlib.sha256(data).hexdigest()
        )
        write_generation(persist, Generation(1, 0, 0, "6.1", "build", "", (base,)))

    def save(persist: Path) -> None:
        last = read_newest(persist)
        layer = write_layer(persist, chance.randbytes(300_000))
        write_generation(persist, follow(last, (*last.files, layer)))

    def merge(persist: Path) -> None:
        last = read_newest(persist)
        layer = write_layer(persist, chance.randbytes(500_000))
        write_generation(persist, follow(last, (*last.base, layer)))
        for number in range(1, last.number + 1):
            (persist / layout.generation_path(number)).unlink()
        fs.sync_directory(persist / layout.GENERATIONS_DIR)
        for file in last.layers:
            (persist / file.path).unlink()

    def roll_back(persist: Path) -> None:
        last = read_newest(persist)
        write_generation(persist, follow(last, last.base))

    steps = (("save", save), ("save", save), ("merge", merge), ("roll back", roll_back))
    return Workload("sequence", build, steps)


def follow(last: Generation, files: tuple[StoredFile, ...]) -> Generation:
    """The generation after this one, with these files."""
    return Generation(last.number + 1, last.number, 0, last.kernel, "user", "", files)


def read_newest(persist: Path) -> Generation:
    """The generation with the highest number."""
    name = max(path.name for path in (persist / layout.GENERATIONS_DIR).iterdir())
    return generation.parse((persist / layout.GENERATIONS_DIR / name).read_bytes(), name)


def write_generation(persist: Path, state: Generation) -> None:
    """Publish a generation file."""
    text = generation.render(state).encode("ascii")
    fs.write_durably(persist / layout.generation_path(state.number), text)


def write_layer(persist: Path, data: bytes) -> StoredFile:
    """Publish a layer under its content name."""
    digest = hashlib.sha256(data).hexdigest()
    path = persist / layout.layer_path(digest)
    fs.write_durably(path, data)
    return StoredFile("layer", layout.layer_path(digest), len(data), digest)


WORKLOADS: dict[str, Callable[[], Workload]] = {"sequence": make_sequence}
