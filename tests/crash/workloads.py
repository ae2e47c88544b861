"""What is cut short: steps on a store, with what the store held before and after each.

Owns: building a store on a fresh image and running the steps on it. A step is any function that
takes the mounted persist; `sequence` uses nothing but `ramos.linux.fs`, as a unit under the engine.
"""

import contextlib
import functools
import hashlib
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ramos import layout
from ramos.config import SaveConfig
from ramos.linux import fs
from ramos.progress import quiet
from ramos.save.commit import CommitRequest, commit
from ramos.save.compact import compact
from ramos.save.history import rollback
from ramos.store import generation
from ramos.store.generation import Generation, StoredFile
from tests.crash import mounts
from tests.crash.check import Judge, Truth, judge, read_truth
from tests.crash.device import persist_mounted, plugged
from tests.crash.log import WriteLog
from tests.crash.machine import Machine, change_tree, install_store, make_tree, read_newest

# Two block groups: the second holds the spare superblock that e2fsck repairs a torn one from.
IMAGE_BYTES = 192 << 20
MKE2FS = ("mke2fs", "-t", "ext4", "-q", "-F", "-b", "4096", "-O", "verity")
MKE2FS_EXTENDED = ("-E", "lazy_itable_init=0,lazy_journal_init=0")

Step = tuple[str, Callable[[], object]]


@dataclass(frozen=True)
class Workload:
    """A store to begin with, and the steps that change it, each made ready when its turn comes."""

    name: str
    build: Callable[[Path], None]
    steps: Callable[[Machine], Iterator[Step]]


@dataclass(frozen=True)
class Recording:
    """The log of a workload, and what the store held before the first step and after each."""

    log: WriteLog
    truths: list[Truth]
    judge: Judge = judge

    def without_flushes(self) -> "Recording":
        """The same on a stick that ignores flushes: the negative control."""
        return replace(self, log=self.log.without_flushes())


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
        with persist_mounted(stick, target) as persist, started(directory) as machine:
            for name, step in workload.steps(machine):
                stick.mark(f"begin {name}")
                step()
                stick.mark(f"end {name}")
                truths.append(read_truth(persist))
        return Recording(stick.read_log(), truths)


@contextlib.contextmanager
def started(home: Path) -> Iterator[Machine]:
    """A machine that is shut down with the block; the steps boot it."""
    machine = Machine(home)
    try:
        yield machine
    finally:
        machine.shut_down()


def make_sequence(seed: int = 1) -> Workload:
    """Save, merge and roll back with nothing but the durable writes of `ramos.linux.fs`."""
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

    def steps(machine: Machine) -> Iterator[Step]:
        for name, step in (("save", save), ("save", save), ("merge", merge), ("roll", roll_back)):
            yield name, functools.partial(step, machine.places.persist)

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

    return Workload("sequence", build, steps)


def follow(last: Generation, files: tuple[StoredFile, ...]) -> Generation:
    """The generation after this one, with these files."""
    return Generation(last.number + 1, last.number, 0, last.kernel, "user", "", files)


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


def build_system(persist: Path) -> None:
    """A stick as the image builder leaves it."""
    tree = persist.with_name("tree")
    tree.mkdir()
    make_tree(tree, random.Random(0))
    install_store(persist, tree)


def make_commits(upper_type: str, seed: int = 1) -> Workload:
    """Saves of a running system, with a reboot and with pruning."""
    config = SaveConfig(keep=2)
    chance = random.Random(seed)
    shutdown = upper_type == "tmpfs"

    def steps(machine: Machine) -> Iterator[Step]:
        machine.upper_type = upper_type
        request = CommitRequest(config=config, shutdown=shutdown)
        for _ in range(2):
            machine.boot()
            for _ in range(2):
                change_tree(machine.root, chance)
                yield "commit", functools.partial(commit, machine.places, request)
            machine.shut_down()

    return Workload("commit", build_system, steps)


def build_history(persist: Path) -> None:
    """A stick on which five saves of several boots lie one upon the other."""
    build_system(persist)
    chance = random.Random(3)
    machine = Machine(persist.parent, "tmpfs")
    for _ in range(5):
        machine.boot()
        change_tree(machine.root, chance)
        commit(machine.places, CommitRequest(shutdown=True))
        machine.shut_down()


def make_compaction(seed: int = 1) -> Workload:
    """Merging layers, a save upon the merged one, and merging again; the old ones are pruned."""
    config = SaveConfig(keep=2)
    chance = random.Random(seed)

    def steps(machine: Machine) -> Iterator[Step]:
        merge = functools.partial(
            compact, machine.places, config, everything=True, on_progress=quiet
        )
        for _ in range(2):
            machine.boot()
            yield "compact", merge
            change_tree(machine.root, chance)
            request = CommitRequest(config=config, shutdown=True)
            yield "commit", functools.partial(commit, machine.places, request)
            machine.shut_down()

    return Workload("compact", build_history, steps)


def make_rollback(seed: int = 1) -> Workload:
    """Going back, saving from there after a reboot, and going back again."""
    chance = random.Random(seed)

    def steps(machine: Machine) -> Iterator[Step]:
        for number in (2, 5):
            machine.boot()
            yield "rollback", functools.partial(rollback, machine.places, number, quiet)
            machine.shut_down()
            machine.boot()
            change_tree(machine.root, chance)
            request = CommitRequest(config=SaveConfig(keep=10), shutdown=True)
            yield "commit", functools.partial(commit, machine.places, request)
            machine.shut_down()

    return Workload("rollback", build_history, steps)


# "shutdown" reads a tmpfs by hard links, as a save at shutdown does; a live save of a tmpfs would
# stop every process of the machine, this lab included.
WORKLOADS: dict[str, Callable[[], Workload]] = {
    "compact": make_compaction,
    "rollback": make_rollback,
    "commit": functools.partial(make_commits, "btrfs"),
    "sequence": make_sequence,
    "shutdown": functools.partial(make_commits, "tmpfs"),
}
