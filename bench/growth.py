"""How the cost of a 1 MB save grows with what is stored already: it should not.

Owns: stores with much in them, and the timing of small saves on each. What is saved lies in a
layer, as after a reboot. Sizes take turns, so that a busy moment of the machine hits all of them.
"""

import contextlib
import hashlib
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import ways
from bench.files import change_tree, write_tree
from ramos import layout
from ramos.store import generation
from ramos.store.generation import Generation, StoredFile
from tests.crash import mounts
from tests.crash.device import PERSIST_OPTIONS
from tests.crash.machine import Machine, install_store, read_newest
from tests.crash.workloads import make_image

MB = 1_000_000
BYTES_A_FILE = 25_000
CHANGE_BYTES, CHANGE_FILES = 1 * MB, 30
ROUNDS = 7


@contextlib.contextmanager
def persist_on_disk(home: Path, size_bytes: int) -> Iterator[Path]:
    """A persist in an image file, with the base of a system, mounted at `home/persist`."""
    persist, image, tree = home / "persist", home / "persist.img", home / "tree"
    persist.mkdir(parents=True)
    make_image(image, size_bytes)
    with mounts.mounted(image, persist, "ext4", PERSIST_OPTIONS, mounts.MS_NOATIME):
        (tree / "etc").mkdir(parents=True)
        (tree / "etc/hostname").write_text("bench\n")
        (tree / "home/user").mkdir(parents=True)
        install_store(persist, tree)
        yield persist


def add_saved_data(persist: Path, scratch: Path, size_bytes: int) -> None:
    """Generation 2: one layer with so much in it."""
    tree = scratch / "saved"
    write_tree(tree / "home/user/data", size_bytes, size_bytes // BYTES_A_FILE, size_bytes % 97)
    image = persist / "layer"
    subprocess.run(["mksquashfs", tree, image, *ways.SQUASH], check=True)
    shutil.rmtree(tree)
    with image.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    layer = StoredFile("layer", layout.layer_path(digest), image.stat().st_size, digest)
    image.rename(persist / layer.path)
    last = read_newest(persist)
    state = Generation(2, 1, 0, last.kernel, "user", "", (*last.files, layer))
    (persist / layout.generation_path(2)).write_text(generation.render(state))


@contextlib.contextmanager
def machine_with(size_bytes: int, home: Path) -> Iterator[Machine]:
    """A started machine with so much saved."""
    with persist_on_disk(home, size_bytes + 1000 * MB) as persist:
        add_saved_data(persist, home, size_bytes)
        machine = Machine(home, "btrfs", 1000 * MB)
        machine.boot()
        try:
            yield machine
        finally:
            machine.shut_down()


def measure_growth(sizes: tuple[int, ...], scratch: Path) -> dict[str, Any]:
    """Median seconds of a 1 MB save at each size, and the ratio of the last to the one before."""
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    with contextlib.ExitStack() as stack:
        machines = {
            size: stack.enter_context(machine_with(size, scratch / str(size))) for size in sizes
        }
        for turn in range(ROUNDS):
            for size, machine in machines.items():
                data = machine.root / "home/user/data"
                change_tree(data, CHANGE_BYTES, CHANGE_FILES, turn)
                began = time.monotonic()
                ways.save_with_engine(machine, machine.places.persist)
                seconds[size].append(time.monotonic() - began)
    medians = {size: statistics.median(times) for size, times in seconds.items()}
    before, last = sizes[-2:]
    return {
        "saved_mb": [size // MB for size in sizes],
        "seconds": [round(medians[size], 3) for size in sizes],
        "ratio": round(medians[last] / medians[before], 3),
    }


def as_text(grown: dict[str, Any]) -> str:
    """One line."""
    pairs = zip(grown["saved_mb"], grown["seconds"], strict=True)
    text = ", ".join(f"{seconds} s at {size} MB" for size, seconds in pairs)
    return f"growth of a 1 MB save: {text}; the last two: {grown['ratio']}"
