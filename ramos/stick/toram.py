"""The images that the system runs from: out of the stick and into RAM, under what is mounted.

Owns: which images those are, what each of them reads now, their verified copies, and the change of
their loop devices. Refuses: a copy that is not what was saved, and taking memory that is needed:
both leave everything on the stick. Invariants: no loop device reads a copy before all of them are
whole; a copy that nobody reads is deleted; RAM that holds one is never swapped; only root can read
it. What `ramos.toram=now` has copied at boot lies in the same place.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ramos.booted import read_boot
from ramos.errors import DamagedError, RamosError, RefusedError, find_reason
from ramos.layout import Places
from ramos.linux import syscalls
from ramos.linux.fs import TEMPORARY_SUFFIX, read_chunks_direct
from ramos.linux.mounts import find_mount
from ramos.progress import OnProgress, Progress
from ramos.sizes import format_size
from ramos.stick import watch
from ramos.store import generations
from ramos.store.generation import StoredFile

# Whether so many bytes more can be taken.
HasRoom = Callable[[int], bool]
READ_TRIES = 3
SECTOR_BYTES = 512
STAYS = "The system goes on with the stick, which must stay in"
DONE = "the system is in RAM now as a whole: the stick can be pulled out. A save needs it back in."


@dataclass(frozen=True)
class Image:
    """A mounted image: the name of its loop device, and the file that this one reads."""

    loop: str
    file: Path
    size_bytes: int


def list_images(places: Places) -> list[Image]:
    """The base images and the layers that are mounted from a file, wherever it lies."""
    stack = sorted(places.stack.iterdir()) if places.stack.is_dir() else []
    found = []
    for place in (*places.base_dirs, *stack):
        mount = find_mount(place)
        if mount is None or not mount.source.startswith("/dev/loop"):
            continue  # a layer that was unpacked
        loop = Path(mount.source).name
        size = int((watch.LOOPS / loop / "size").read_text(encoding="ascii")) * SECTOR_BYTES
        found.append(Image(loop, Path(watch.read_backing(loop)), size))
    return found


def list_on_stick(places: Places) -> list[Image]:
    """Those of them that are not in RAM yet."""
    return [image for image in list_images(places) if image.file.parent != places.ram_dir]


def is_in_ram(places: Places) -> bool:
    """Whether the system needs the stick for nothing but saves."""
    return places.in_ram_file.exists()


def move_to_ram(places: Places, has_room: HasRoom, on_progress: OnProgress) -> str:
    """Copy what is still read from the stick, then let the loop devices read the copies.

    All or nothing, as far as that goes; what is to be told of it.
    """
    with watch.hold_loops(places.run):
        images = list_on_stick(places)
        known = list_known(places)
        with open_ram(places):
            try:
                copies = _copy_all(images, known, places, has_room, on_progress)
                for image, copy in zip(images, copies, strict=True):
                    _change_file(image, copy)
            finally:
                _sweep(places.ram_dir)
        places.in_ram_file.touch()
    for image in images:
        _forget_pages(image.file)
    return DONE


def list_known(places: Places) -> dict[str, StoredFile]:
    """What each file of the store was when it was saved; the booted generation's word counts."""
    good, _ = generations.read_all(places.persist)
    booted = read_boot(places).generation
    good.sort(key=lambda generation: (generation.number == booted, generation.number))
    return {file.path: file for generation in good for file in generation.files}


@contextlib.contextmanager
def open_ram(places: Places) -> Iterator[None]:
    """A place for copies that can be written to while the block runs.

    A ramfs: what lies in it is never swapped, to the stick least of all.
    """
    ram = places.ram_dir
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    try:
        if find_mount(ram) is None:
            ram.mkdir(mode=0o700, exist_ok=True)
            syscalls.mount(Path("ram"), ram, "ramfs", flags, "mode=700")
        else:
            syscalls.mount(Path("ram"), ram, "", flags | syscalls.MS_REMOUNT)
        try:
            yield
        finally:
            syscalls.mount(Path("ram"), ram, "", flags | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)
    except OSError as error:
        raise RamosError("cannot copy to RAM", ram, error, STAYS) from error


def _copy_all(
    images: list[Image],
    known: dict[str, StoredFile],
    places: Places,
    has_room: HasRoom,
    on_progress: OnProgress,
) -> list[Path]:
    copies = []
    left = total = sum(image.size_bytes for image in images)
    for image in images:
        name = str(image.file).removeprefix(f"{places.persist}/")
        if name not in known:
            raise RefusedError("cannot copy to RAM", image.file, "no generation names it")
        on_progress(Progress("copying to RAM", total - left, total, name))
        copies.append(_copy(known[name], image.file, places.ram_dir, has_room, left))
        left -= image.size_bytes
    return copies


def _copy(known: StoredFile, source: Path, ram: Path, has_room: HasRoom, left: int) -> Path:
    """A copy of a file that was compared with what was saved; a failed read is tried again."""
    target = ram / (source.name + TEMPORARY_SUFFIX)
    reason = ""
    for _ in range(READ_TRIES):
        try:
            found = _copy_bytes(source, target, has_room, left)
        except OSError as error:
            reason = find_reason(error)
            continue
        if found == known.sha256:
            return target.rename(ram / source.name)
        reason = f"its sha256 is {found}"
        _forget_pages(source)
    raise DamagedError("cannot copy to RAM", source, reason, STAYS)


def _copy_bytes(source: Path, target: Path, has_room: HasRoom, left: int) -> str:
    """The bytes, past the page cache; their sha256."""
    digest = hashlib.sha256()
    done = 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for chunk in read_chunks_direct(source):
            with chunk:
                _require_room(source, has_room, left - done)
                digest.update(chunk)
                file.write(chunk)
                done += len(chunk)
    return digest.hexdigest()


def _require_room(source: Path, has_room: HasRoom, left: int) -> None:
    if not has_room(left):
        reason = f"there is no room in RAM for {format_size(left)} more"
        raise RamosError("cannot copy to RAM", source, reason, STAYS)


def _change_file(image: Image, copy: Path) -> None:
    try:
        if watch.is_replaced(image.loop):
            raise OSError("another file has taken its name")
        syscalls.change_loop_file(Path("/dev", image.loop), copy)
    except OSError as error:
        raise RamosError("cannot read from RAM", image.file, error, STAYS) from error


def _sweep(ram: Path) -> None:
    """Delete what no loop device reads, whoever has left it."""
    used = {Path(watch.read_backing(entry.name)) for entry in watch.LOOPS.glob("loop*")}
    for path in ram.iterdir():
        if path not in used:
            path.unlink()


def _forget_pages(path: Path) -> None:
    """Give back the RAM in which the kernel remembers a file that is read no more."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
