"""A stick and a running system in miniature: real ext4, btrfs or tmpfs, squashfs and overlayfs.

Owns: booting a generation the way the initramfs does (an empty upper over the layers over a base),
in a private mount namespace and on files in a tmpfs. Refuses: anything outside its directory.
"""

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from ramos.config import SaveConfig
from ramos.layers.bootacls import restore_acls
from ramos.layout import Places, generation_path
from ramos.linux.mounts import attach_loop
from ramos.save import commit
from ramos.store.generation import Generation
from ramos.store.generations import list_generations, read_default, read_generation
from tests.crash.mounts import read_overlay_options

LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_NOATIME, UMOUNT_DETACH = 1, 1024, 2


def mount(source: str, target: Path, kind: str, options: str = "", flags: int = 0) -> None:
    """mount(2): a process for each mount would be most of what the tests do."""
    arguments = (source.encode(), os.fsencode(target), kind.encode(), flags, options.encode())
    if LIBC.mount(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target} ({kind}, {options})")


def call(*argv: str | Path) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"


@dataclass
class Lab:
    """One stick, and what is booted from it."""

    top: Path
    upper_kind: str = "btrfs"
    restore: str = "mount"
    persist_mib: int = 64
    upper_mib: int = 256
    boots: int = 0
    pool_device: str = ""
    mounted: list[Path] = field(default_factory=list)
    config: SaveConfig = field(default_factory=lambda: SaveConfig(reserve_mib=1))

    @property
    def places(self) -> Places:
        """Where the system that runs now keeps its things."""
        return Places.below(self.top)

    def make(self) -> "Lab":
        """An empty stick and a base with something in it."""
        call("mount", "-t", "tmpfs", "tmpfs", self.top)
        for name in ("persist", "run/rootfs", "root", "pool", "run/upper", "run/layers"):
            (self.top / name).mkdir(parents=True)
        persist = self.top / "persist.img"
        with persist.open("wb") as file:
            file.truncate(self.persist_mib << 20)
        call("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", "-b", "4096", persist)
        call("mount", "-o", "loop,noatime", persist, self.places.persist)
        if self.upper_kind == "btrfs":
            pool = self.top / "pool.img"
            with pool.open("wb") as file:
                file.truncate(self.upper_mib << 20)
            call("mkfs.btrfs", "-q", "-m", "single", "-d", "single", pool)
            call("mount", "-o", "loop,noatime", pool, self.top / "pool")
            self.pool_device = find_source(self.top / "pool")
        self.fill_base()
        return self

    def fill_base(self) -> None:
        """Some directories and files that changes can hide, replace and remove."""
        for folder in ("a", "b/c", "tmp", "etc"):
            (self.places.run / "rootfs" / folder).mkdir(parents=True)
        for name in ("a/one", "a/two", "b/three", "b/c/four", "etc/five", "six"):
            (self.places.run / "rootfs" / name).write_text(f"base {name}\n")

    def boot(self, number: int | None = None, mode: str = "default") -> None:
        """Start the system from a generation, with an empty upper; the old system is gone."""
        self.shut_down()
        self.boots += 1
        places = self.places
        generation = self.find(number, mode)
        self.make_upper()
        layers = self.provide(generation) if generation else []
        lower = ":".join(str(path) for path in (*reversed(layers), self.places.run / "rootfs"))
        upper, work = places.upper / "upper", places.upper / "work"
        copy_root_attributes((layers or [self.places.run / "rootfs"])[-1], upper)
        folders = f"lowerdir={lower},upperdir={upper},workdir={work}"
        options = f"{folders},{read_overlay_options()}"
        mount("overlay", places.root, "overlay", options)
        self.mounted.append(places.root)
        if generation:
            _, problems = restore_acls(generation, places)
            assert not problems, problems
        booted = generation.number if generation else 0
        places.boot_file.write_text(f"mode={mode}\ngeneration={booted}\nkernel=6.1\n")
        for file in (places.saved_file, places.rollback_file, places.generation_file):
            file.unlink(missing_ok=True)
        if generation:
            shutil.copy(places.persist / generation_path(booted), places.generation_file)

    def boot_first(self) -> "Lab":
        """As a stick is that was never saved to: the default mode, and no generation."""
        self.boot(mode="clean")
        self.places.boot_file.write_text("mode=default\ngeneration=0\n")
        return self

    def find(self, number: int | None, mode: str) -> Generation | None:
        if mode == "clean":
            return None
        if number is not None:
            return read_generation(self.places.persist, number)
        default = read_default(self.places.persist)
        if mode == "backup" and default is not None:
            return read_generation(self.places.persist, default.parent)
        return default

    def make_upper(self) -> None:
        upper = self.places.upper
        if self.upper_kind == "btrfs":
            name = f"boot{self.boots}"
            call("btrfs", "-q", "subvolume", "create", self.top / "pool" / name)
            mount(self.pool_device, upper, "btrfs", f"subvol={name}", MS_NOATIME)
        else:
            mount("tmpfs", upper, "tmpfs", f"size={self.upper_mib}m", MS_NOATIME)
        self.mounted.append(upper)
        for folder in ("upper", "work", "snapshots"):
            (upper / folder).mkdir()

    def provide(self, generation: Generation) -> list[Path]:
        """The layers of a generation as directories, in one of the three restore ways."""
        found = []
        for number, layer in enumerate(generation.layers, 1):
            folder = self.places.stack / f"{number:02d}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            image = self.places.persist / layer.path
            if self.restore == "unpack":
                folder.rmdir()
                call("unsquashfs", "-q", "-n", "-d", folder, image)
            else:
                if self.restore == "ram":
                    copy = self.places.run / f"{number:02d}.squashfs"
                    image = Path(shutil.copyfile(image, copy))
                loop, node = attach_loop(image)
                mount(node, folder, "squashfs", flags=MS_RDONLY)
                os.close(loop)
                self.mounted.append(folder)
            found.append(folder)
        return found

    def shut_down(self) -> None:
        """Unmount everything of the running system; nothing is saved."""
        for path in reversed(self.mounted):
            if LIBC.umount2(os.fsencode(path), 0) != 0:
                raise OSError(ctypes.get_errno(), f"umount {path}")
        self.mounted.clear()
        shutil.rmtree(self.places.stack)
        self.places.stack.mkdir()
        subvolume = self.top / "pool" / f"boot{self.boots}"
        if subvolume.exists():
            call("btrfs", "-q", "subvolume", "delete", subvolume)

    def commit(self, **options: object) -> commit.CommitReport:
        """Save the running system."""
        options.setdefault("config", self.config)
        request = commit.CommitRequest(**options)  # type: ignore[arg-type]
        return commit.commit(self.places, request)

    def numbers(self) -> list[int]:
        """The generations that are there."""
        return [generation.number for generation in list_generations(self.places.persist)]


def copy_root_attributes(source: Path, target: Path) -> None:
    """As the initramfs does: the root directory that people see is the upper's."""
    status = source.stat()
    target.chmod(status.st_mode & 0o7777)
    os.chown(target, status.st_uid, status.st_gid)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def find_source(mountpoint: Path) -> str:
    """The device that is mounted at a place."""
    done = subprocess.run(
        ["findmnt", "-n", "-o", "SOURCE", mountpoint], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
