"""One layer: a squashfs of a directory, written to the stick, read back, compared, published.

Owns: calling mksquashfs within limits, the read-back and the comparison. Refuses: believing a tool
that complained, or a stick that gives back other bytes. Invariant: a file with a content name in
upperfs/layers was durable, was read back from the device and held exactly its source.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.config import SaveConfig
from ramos.errors import RamosError
from ramos.layers.compare import comparing
from ramos.layers.stack import Node
from ramos.layers.stage import take_out_unreadable
from ramos.layers.walk import Delta, Entry
from ramos.linux.fs import (
    TEMPORARY_SUFFIX,
    crash_point,
    hash_file,
    sync_directory,
    sync_file,
)
from ramos.linux.mounts import mount_image
from ramos.linux.squashfs import DEFAULT_STAYS, NoRoomError, run_squashfs
from ramos.linux.verity import FileDigests, digest_file, enable_verity, is_supported, measure_verity
from ramos.progress import OnProgress, Progress
from ramos.sizes import format_size
from ramos.store.generation import Kind, StoredFile
from ramos.store.generations import find_damage, read_direct, write_synced

SHOWN_DIFFERENCES = 3
# mksquashfs looks for a file's twin among all that have its size: seconds beyond this many pairs,
# hours with a million small files.
MAX_SAME_SIZE_PAIRS = 200_000_000
# What mksquashfs holds for every entry (measured: 450 with 4.5.1), and the least it works with.
BYTES_AN_ENTRY = 450
LEAST_MEMORY_MIB = 32
WRITING = "writing the layer"
READING_BACK = "reading it back"


@dataclass(frozen=True)
class NewLayer:
    """A layer under its temporary name, complete and checked."""

    path: Path
    digests: FileDigests


@contextlib.contextmanager
def new_layer(persist: Path) -> Iterator[Path]:
    """A temporary name in the store; what still has it at the end of the block is deleted."""
    path = persist / layout.LAYERS_DIR / f"new-{os.getpid()}.squashfs{TEMPORARY_SUFFIX}"
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def build_layer(
    source: Path,
    target: Path,
    config: SaveConfig,
    max_bytes: int,
    delta: Delta,
    on_progress: OnProgress,
) -> NewLayer:
    """Make, flush, read back and compare a layer; anything odd is an error and nothing counts.

    The source is ours to edit: a file in it that cannot be read is taken out, and named.
    """
    crash_point("layer-before-build")
    on_progress(Progress(WRITING))
    try:
        make_squashfs(source, target, config, max_bytes, delta)
    except NoRoomError:
        raise
    except RamosError:
        delta.unread = take_out_unreadable(os.fsencode(source))
        if not delta.unread:
            raise
        make_squashfs(source, target, config, max_bytes, delta)
    crash_point("layer-built")
    on_progress(Progress(READING_BACK))
    # What the compared files are read from is what was written; that the device has it as well,
    # the read-back says, for both see the bytes that `expected` is the hash of.
    with mount_image(target) as found, comparing(source, found) as wait:
        digests = read_back(target)
        refuse_differences(wait())
    crash_point("layer-compared")
    return NewLayer(target, digests)


def make_squashfs(
    source: Path, target: Path, config: SaveConfig, max_bytes: int, delta: Delta
) -> None:
    """A squashfs of a directory that holds what `delta` counted."""
    argv: list[str | Path] = ["mksquashfs", source, target]
    try:
        run_squashfs([*argv, *list_options(config, delta)], target, max_bytes)
    except NoRoomError as error:
        raise _name_largest(error, delta) from error


def _name_largest(error: NoRoomError, delta: Delta) -> RamosError:
    """Nothing is left out for want of room: whoever reads this knows best what can go."""
    size, path = delta.largest
    changed = f"{format_size(delta.size_bytes)} have changed"
    largest = f"the largest file is {os.fsdecode(b'/' + path)} with {format_size(size)}"
    hint = f"{error.hint} Or delete what need not be kept; save.exclude names what never is."
    return NoRoomError(
        error.what, error.obj, f"{error.reason}; {changed}, {largest}", error.state, hint
    )


def count_entries(entries: Iterable[Entry | Node]) -> Delta:
    """The number of entries and the sizes of the files among them."""
    delta = Delta()
    for entry in entries:
        delta.files += 1
        if stat.S_ISREG(entry.status.st_mode):
            delta.add_file(entry.status)
    return delta


def list_options(config: SaveConfig, delta: Delta) -> list[str]:
    """How mksquashfs makes a layer: of the same content always the same bytes."""
    options = ["-noappend", "-mkfs-time", "0", *list_limits(config, delta)]
    options += ["-comp", "zstd", "-Xcompression-level", str(config.compression_level)]
    many = delta.same_size_pairs > MAX_SAME_SIZE_PAIRS
    return [*options, "-no-duplicates"] if many else options


def list_limits(config: SaveConfig, delta: Delta) -> list[str]:
    """What mksquashfs may take, and that it has to be silent.

    Its limit is one for its buffers: what it notes of every entry comes on top of that.
    """
    mib = max(LEAST_MEMORY_MIB, config.memory_mib - delta.files * BYTES_AN_ENTRY // (1 << 20))
    options = ["-no-progress", "-quiet", "-no-recovery", "-mem", f"{mib}M"]
    return [*options, "-processors", str(min(2, os.cpu_count() or 1))]


def read_back(path: Path) -> FileDigests:
    """Flush a file, drop it from the page cache, and see that the device has the same bytes."""
    expected = hash_file(path)
    try:
        sync_file(path)
        crash_point("layer-synced")
        if is_supported():
            digests = digest_file(path, direct=True)
        else:
            sha256 = hash_file(path, direct=True)
            digests = FileDigests(path.stat().st_size, sha256, "")
    except OSError as error:
        raise RamosError("cannot write", path, error, DEFAULT_STAYS) from error
    if digests.sha256 != expected:
        reason = "the stick gave back other bytes than were written"
        hint = "The stick is failing or a counterfeit: save elsewhere, and replace it."
        raise RamosError("cannot trust the stick with", path, reason, DEFAULT_STAYS, hint)
    crash_point("layer-read-back")
    return digests


def refuse_differences(differences: Sequence[str]) -> None:
    """Everything that should be in a mounted layer is, and nothing else."""
    if differences:
        reason = f"it does not hold what was to be saved: {'; '.join(differences)}"
        raise RamosError("cannot use", "the new layer", reason, DEFAULT_STAYS)


def publish_layer(persist: Path, built: NewLayer) -> StoredFile:
    """Give a checked layer the name of its content, durably, and seal it where that can be had."""
    relative = layout.layer_path(built.digests.sha256)
    return _publish(persist, "layer", relative, built)


def publish_sidecar(persist: Path, data: bytes) -> StoredFile:
    """Store an ACL sidecar like a layer: durable, read back, named by its content."""
    temporary = persist / layout.LAYERS_DIR / f"new-{os.getpid()}.acl{TEMPORARY_SUFFIX}"
    try:
        write_synced(temporary, data, 0o600)
        if read_direct(temporary) != data:
            reason = "the stick gave back other bytes than were written"
            raise RamosError("cannot trust the stick with", temporary, reason, DEFAULT_STAYS)
        built = NewLayer(temporary, digest_file(temporary))
        return _publish(persist, "acl", layout.sidecar_path(built.digests.sha256), built)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _publish(persist: Path, kind: Kind, relative: str, built: NewLayer) -> StoredFile:
    final, digests = persist / relative, built.digests
    stored = StoredFile(kind, relative, digests.size_bytes, digests.sha256)
    if not final.exists() or find_damage(persist, stored) is not None:
        built.path.rename(final)
        crash_point(f"{kind}-renamed")
        sync_directory(final.parent)
        crash_point(f"{kind}-published")
    verity = _seal(final, digests)
    crash_point(f"{kind}-sealed")
    return StoredFile(kind, relative, digests.size_bytes, digests.sha256, verity)


def _seal(path: Path, digests: FileDigests) -> str:
    """Turn on fs-verity; its digest, or nothing where kernel or file system have none."""
    if not is_supported() or not enable_verity(path):
        return ""
    measured = measure_verity(path)
    if digests.verity and measured != digests.verity:
        path.unlink()
        reason = f"its fs-verity digest is {measured} instead of {digests.verity}"
        raise RamosError("cannot trust the stick with", path, reason, DEFAULT_STAYS)
    return measured
