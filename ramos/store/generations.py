"""The store of generations on persist: list, read, publish, pin and prune.

    /persist/
      rootfs.squashfs  firmware.squashfs  modules-<kver>.squashfs    base images
      upperfs/
        layers/
          <sha256>.squashfs      one commit's changes, named by content, never changed
          <sha256>.acl           its ACLs, which squashfs cannot hold
          NAME.tmp               being written; swept at the start of the next commit
        generations/
          000041  000042         one small text file a generation (ramos/store/generation.py)
        pins/
          000041                 an empty file: never pruned

Owns: this tree. Refuses: making layers, and a pointer to the current generation: default is the
valid generation with the highest number, backup is its parent. Invariants: a generation file gets
its name after everything that it names is durable; a layer that any generation file mentions, even
a damaged one, is never deleted; a number is never used twice.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ramos import layout
from ramos.config import SaveConfig
from ramos.errors import DamagedError, RamosError, UsageError, find_reason
from ramos.linux.fs import (
    TEMPORARY_SUFFIX,
    crash_point,
    hash_file,
    read_chunks_direct,
    sync_directory,
)
from ramos.sizes import format_count
from ramos.store.generation import (
    LAST_NUMBER,
    MAX_FILE_BYTES,
    NAME_PATTERN,
    Generation,
    StoredFile,
    parse,
    plain_word,
    seal,
)
from ramos.store.retention import plan_prune

ROOMY_SHARE = 4
LAYER_NAME_PATTERN = re.compile(rb"[0-9a-f]{64}\.(?:squashfs|acl)")


@dataclass(frozen=True)
class Damage:
    """A file of the store that cannot be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class PruneReport:
    """What a pruning deleted, and how many bytes that freed."""

    generations: tuple[int, ...]
    files: tuple[str, ...]
    freed_bytes: int
    # The generations by number and message.
    names: tuple[str, ...] = ()


NOTHING_PRUNED = PruneReport((), (), 0)


def make_tree(persist: Path) -> None:
    """The directories of the store, durably."""
    for name in (layout.LAYERS_DIR, layout.GENERATIONS_DIR, layout.PINS_DIR):
        folder = persist / name
        if not folder.is_dir():
            folder.mkdir(parents=True)
            sync_directory(folder.parent)
            sync_directory(folder.parent.parent)


def list_numbers(persist: Path) -> list[int]:
    """The numbers that are taken, by valid and damaged generation files alike."""
    try:
        names = os.listdir(persist / layout.GENERATIONS_DIR)
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if NAME_PATTERN.fullmatch(name))


def read_generation(persist: Path, number: int) -> Generation:
    """One generation; a damaged or absent one is an error that says so."""
    path = persist / layout.generation_path(number)
    try:
        data = _read_small(path)
    except FileNotFoundError:
        hint = "'ramos log' lists the generations there are."
        raise UsageError("no such generation", number, f"{path} is absent", hint=hint) from None
    except OSError as error:
        raise DamagedError("cannot read generation", path.name, error) from error
    return parse(data, path.name)


def _read_small(path: Path) -> bytes:
    """As much of a file as a generation may have, and a byte more; a pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def read_all(persist: Path) -> tuple[list[Generation], list[Damage]]:
    """Every readable generation in order, and what is wrong with the others."""
    good, bad = [], []
    for number in list_numbers(persist):
        try:
            good.append(read_generation(persist, number))
        except RamosError as error:
            bad.append(Damage(layout.generation_path(number), error.reason))
    return good, bad


def list_generations(persist: Path) -> list[Generation]:
    """The generations that could be booted, lowest number first."""
    return [g for g in read_all(persist)[0] if not find_absent(persist, g)]


def find_absent(persist: Path, generation: Generation) -> list[Damage]:
    """Layers and sidecars that are not there, or not of the size they had: no content is read."""
    found = []
    for file in generation.saved:
        try:
            size = (persist / file.path).stat().st_size
        except OSError as error:
            found.append(Damage(file.path, find_reason(error)))
            continue
        if size != file.size_bytes:
            found.append(
                Damage(file.path, f"{format_count(size, 'byte')} instead of {file.size_bytes}")
            )
    return found


def read_default(persist: Path) -> Generation | None:
    """The valid generation with the highest number."""
    for number in reversed(list_numbers(persist)):
        with contextlib.suppress(RamosError):
            generation = read_generation(persist, number)
            if not find_absent(persist, generation):
                return generation
    return None


def read_parent(persist: Path, generation: Generation) -> Generation | None:
    """The one that a generation was made from, if a boot would take it."""
    with contextlib.suppress(RamosError):
        parent = read_generation(persist, generation.parent) if generation.parent else None
        return parent if parent and not find_absent(persist, parent) else None
    return None


def next_number(persist: Path) -> int:
    """A number above every other, damaged ones included: order is the number.

    Junk that has the last number there is does not end all saves: above it no boot would look.
    """
    taken = list_numbers(persist)
    if not taken or taken[-1] < LAST_NUMBER:
        return max(taken, default=0) + 1
    good = max((generation.number for generation in read_all(persist)[0]), default=0)
    return next(n for n in range(good + 1, LAST_NUMBER + 2) if n not in taken)


def sweep(persist: Path) -> None:
    """Remove what an interrupted commit left: temporary files, and layers that nothing names."""
    for name in (layout.LAYERS_DIR, layout.GENERATIONS_DIR, layout.PINS_DIR):
        folder = persist / name
        for entry in folder.glob(f"*{TEMPORARY_SUFFIX}") if folder.is_dir() else ():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)  # nothing of ours is one: junk
                continue
            with contextlib.suppress(OSError):  # what stays is in nobody's way
                entry.unlink()
    if (persist / layout.GENERATIONS_DIR).is_dir():
        _delete_unnamed(persist)


def publish_generation(persist: Path, generation: Generation) -> None:
    """Write the file, read it back from the device, and give it its name: this is the commit.

    What the format cannot hold of a kernel's name or a reason costs those characters.
    """
    kernel, reason = plain_word(generation.kernel), plain_word(generation.reason)
    data = seal(replace(generation, kernel=kernel, reason=reason))
    final = persist / layout.generation_path(generation.number)
    temporary = final.with_name(final.name + TEMPORARY_SUFFIX)
    crash_point("generation-before-write")
    try:
        write_synced(temporary, data)
        crash_point("generation-written")
        if read_direct(temporary) != data:
            raise OSError(errno.EIO, "the stick gave back other bytes than were written")
        temporary.rename(final)
        crash_point("generation-renamed")
        sync_directory(final.parent)
    except OSError as error:
        state = _take_back(temporary, final)
        raise RamosError("cannot write", final, error, state) from error
    crash_point("generation-published")


def _take_back(temporary: Path, final: Path) -> str:
    """Undo a publishing that failed; what state that leaves."""
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
    try:
        final.unlink(missing_ok=True)
    except OSError:
        return (
            "Whether it counts shows at the next boot: the stick has it as a whole, or not at all"
        )
    return "The default is what it was"


def write_synced(path: Path, data: bytes, mode: int = 0o644) -> None:
    """A new small file, durable and out of the page cache, so that reading asks the device."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(data)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def read_direct(path: Path) -> bytes:
    """A small file as the device gives it back."""
    data = bytearray()
    for chunk in read_chunks_direct(path):
        data += chunk
        chunk.release()
    return bytes(data)


def list_pins(persist: Path) -> set[int]:
    """The generations that must never be pruned."""
    folder = persist / layout.PINS_DIR
    names = os.listdir(folder) if folder.is_dir() else []
    return {int(name) for name in names if NAME_PATTERN.fullmatch(name)}


def _pin_path(persist: Path, number: int) -> Path:
    return persist / layout.PINS_DIR / Path(layout.generation_path(number)).name


def set_pin(persist: Path, number: int) -> None:
    """Keep a generation for good."""
    read_generation(persist, number)
    path = _pin_path(persist, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    sync_directory(path.parent)


def clear_pin(persist: Path, number: int) -> None:
    """Let a generation go when its time comes."""
    path = _pin_path(persist, number)
    if not path.exists():
        hint = "'ramos log' marks those that are."
        raise UsageError("cannot unpin", f"generation {number}", "it is not pinned", hint=hint)
    path.unlink()
    sync_directory(path.parent)


def prune(persist: Path, config: SaveConfig, protected: Iterable[int]) -> PruneReport:
    """Delete old generations, then layers that nothing names."""
    pins, room = list_pins(persist), is_roomy(persist)
    old = plan_prune(list_generations(persist), pins, config, protected, room=room)
    for generation in old:
        crash_point("prune-generation")
        (persist / layout.generation_path(generation.number)).unlink(missing_ok=True)
    if old:
        sync_directory(persist / layout.GENERATIONS_DIR)
    files, freed = _delete_unnamed(persist)
    numbers = tuple(generation.number for generation in old)
    return PruneReport(numbers, tuple(files), freed, tuple(map(describe, old)))


def is_roomy(persist: Path) -> bool:
    """Whether more than the newest saves can stay: a quarter of persist is free."""
    status = os.statvfs(persist)
    return status.f_bavail * ROOMY_SHARE >= status.f_blocks


def describe(generation: Generation) -> str:
    """One generation as a person knows it."""
    message = f" ({generation.message})" if generation.message else ""
    return f"{generation.number}{message}"


def _delete_unnamed(persist: Path) -> tuple[list[str], int]:
    """Delete the layers and sidecars that no generation file mentions, readable or not."""
    folder = persist / layout.LAYERS_DIR
    if not folder.is_dir():
        return [], 0
    try:
        named = list_named(persist)
    except OSError:
        return [], 0  # a file that cannot be read may name any of them
    files, freed = [], 0
    for entry in sorted(os.scandir(os.fsencode(folder)), key=lambda e: e.name):
        if not LAYER_NAME_PATTERN.fullmatch(entry.name) or entry.name in named:
            continue
        crash_point("prune-layer")
        with contextlib.suppress(OSError):  # a directory, or what the stick cannot read
            size = entry.stat(follow_symlinks=False).st_blocks * 512
            os.unlink(entry.path)
            freed += size
            files.append(entry.name.decode("ascii"))
    if files:
        sync_directory(folder)
    return files, freed


def list_named(persist: Path) -> set[bytes]:
    """The names of layers that stand in any generation file, even one that is damaged or newer.

    Raises OSError where one cannot be read; what is no file names nothing.
    """
    named: set[bytes] = set()
    for entry in (persist / layout.GENERATIONS_DIR).iterdir():
        if entry.is_file():
            named.update(LAYER_NAME_PATTERN.findall(_read_small(entry)[:MAX_FILE_BYTES]))
    return named


def find_damage(persist: Path, file: StoredFile) -> Damage | None:
    """Read a file from the device as a whole and compare it with what was saved."""
    path = persist / file.path
    try:
        size = path.stat().st_size
        if size != file.size_bytes:
            return Damage(file.path, f"{format_count(size, 'byte')} instead of {file.size_bytes}")
        found = hash_file(path, direct=True)
    except OSError as error:
        return Damage(file.path, find_reason(error))
    return None if found == file.sha256 else Damage(file.path, f"its sha256 is {found}")
