"""A started system on this host: persist, the layers of a generation, an empty upper, the overlay.

Owns: putting together in a directory what the initramfs puts together on a machine, and taking it
apart again. Refuses: the machine's own /persist and /run/ramos; everything lies below `home`.
"""

import contextlib
import hashlib
import os
import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from ramos import layout
from ramos.layout import Places
from ramos.store import generation
from ramos.store.generation import Generation, StoredFile
from tests.crash import mounts
from tests.crash.zram import zram_device

UPPER_BYTES = 1 << 30
MKFS_BTRFS = ("mkfs.btrfs", "-q", "-f", "-d", "single", "-m", "single")


@dataclass
class Machine:
    """A system whose persist is mounted (by the caller) at `home/persist`."""

    home: Path
    upper_type: str = "tmpfs"
    upper_bytes: int = UPPER_BYTES
    zram: Path | None = None
    mounted: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def places(self) -> Places:
        """Where the engine finds everything."""
        run = self.home / "run"
        return Places(
            persist=self.home / "persist",
            run=run,
            upper=run / "upper",
            stack=run / "layers",
            root=self.home / "root",
        )

    @property
    def root(self) -> Path:
        """The root of the running system."""
        return self.places.root

    def boot(self) -> None:
        """Start the newest generation of the persist that is mounted below `home`."""
        self.boot_from(self.places.persist)

    def boot_from(self, persist: Path) -> None:
        """Start the newest generation of any mounted persist."""
        places = self.places
        state = read_newest(persist)
        for folder in (places.run, places.root):
            folder.mkdir(parents=True, exist_ok=True)
        self._enter(places.run, "tmpfs", "tmpfs")
        self._make_upper()
        lowers = [self._mount_image(persist / layout.ROOTFS_IMAGE, places.run / "rootfs")]
        for n, file in enumerate(state.layers, 1):
            lowers.append(self._mount_image(persist / file.path, places.stack / f"{n:02d}"))
        lower = ":".join(map(str, reversed(lowers)))
        folders = f"upperdir={places.upper_dir},workdir={places.upper}/work"
        options = f"lowerdir={lower},{folders},{mounts.read_overlay_options()}"
        self._enter(places.root, "overlay", "overlay", options)
        node = find_device(persist)
        lines = ("mode=default", f"generation={state.number}", "kernel=6.1", f"persist={node}")
        upper = "zram" if self.upper_type == "btrfs" else "tmpfs"
        more = (f"upper={upper}", f"upper_bytes={self.upper_bytes}", "restore=mount", "luks=0")
        places.boot_file.write_text("".join(f"{line}\n" for line in (*lines, *more)))

    def _make_upper(self) -> None:
        upper = self.places.upper
        upper.mkdir()
        if self.upper_type == "tmpfs":
            self._enter(upper, "tmpfs", "tmpfs", f"size={self.upper_bytes}")
        else:
            self.zram = self.mounted.enter_context(zram_device(self.upper_bytes))
            subprocess.run([*MKFS_BTRFS, self.zram], check=True, capture_output=True)
            mounts.mount(self.zram, upper, "btrfs", "", mounts.MS_NOATIME)
            self.mounted.callback(mounts.unmount, upper)
            (upper / "snapshots").mkdir()
        (upper / "upper").mkdir()
        (upper / "work").mkdir()

    def _mount_image(self, image: Path, target: Path) -> Path:
        target.mkdir(parents=True)
        self.mounted.enter_context(mounts.mounted(image, target, "squashfs", "", mounts.MS_RDONLY))
        return target

    def _enter(self, target: Path, kind: str, source: str, options: str = "") -> None:
        mounts.mount(source, target, kind, options)
        self.mounted.callback(mounts.unmount, target)

    def shut_down(self) -> None:
        """Unmount everything but persist; what was not saved is gone."""
        self.mounted.close()
        self.mounted = contextlib.ExitStack()


def find_device(folder: Path) -> Path:
    """The block device that a folder is on."""
    number = folder.stat().st_dev
    node = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    return Path("/dev") / node.name


def read_newest(persist: Path, number: int | None = None) -> Generation:
    """A generation of the store: the one with the highest number unless told otherwise."""
    folder = persist / layout.GENERATIONS_DIR
    names = (path.name for path in folder.iterdir() if path.name.isdigit())
    name = max(names) if number is None else f"{number:06d}"
    return generation.parse((folder / name).read_bytes(), name)


def make_tree(root: Path, chance: random.Random, count: int = 40) -> None:
    """Files like those of a system, of data that does not repeat."""
    for n in range(count):
        folder = root / ("etc", "usr/lib", "home/user", "var/lib/some where")[n % 4]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file{n:03d}").write_bytes(chance.randbytes(chance.randrange(1, 8000)))
    (root / "etc/link").symlink_to("file000")


def change_tree(root: Path, chance: random.Random) -> None:
    """What a user does between two saves: some files are new, some changed, some deleted."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    for path in chance.sample(files, 6):
        path.write_bytes(chance.randbytes(chance.randrange(1, 60_000)))
    for path in chance.sample(files, 4):
        path.unlink(missing_ok=True)
    folder = root / f"home/user/new{chance.randrange(10**6)}"
    folder.mkdir()
    for n in range(8):
        (folder / f"{n}").write_bytes(chance.randbytes(chance.randrange(1, 30_000)))


def install_store(persist: Path, tree: Path) -> None:
    """What the image builder leaves: a base image, and generation 1 without layers."""
    for name in (layout.LAYERS_DIR, layout.GENERATIONS_DIR, layout.PINS_DIR):
        (persist / name).mkdir(parents=True)
    image = persist / layout.ROOTFS_IMAGE
    words: list[str | Path] = ["mksquashfs", tree, image, "-noappend", "-quiet", "-no-progress"]
    subprocess.run([*words, "-comp", "zstd", "-Xcompression-level", "1"], check=True)
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    base = StoredFile("rootfs", layout.ROOTFS_IMAGE, image.stat().st_size, digest)
    text = generation.render(Generation(1, 0, 0, "6.1", "build", "", (base,)))
    (persist / layout.generation_path(1)).write_text(text)
