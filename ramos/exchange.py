"""Taking things out of a generation and bringing them in: single files, and whole images.

Owns: restore-file, export and import. Refuses: overwriting on the stick; an import is a new
generation. Invariants: what is restored or exported has its final name only once it is complete;
an imported image was read as a whole, from its source and back from the stick.
"""

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

from ramos.acls import WORDS, parse_acls
from ramos.config import SaveConfig
from ramos.diff import Stacks
from ramos.errors import DamagedError, RamosError, UsageError
from ramos.fs import hash_file, hold_lock, sync_directory, sync_file
from ramos.generation import Generation, StoredFile
from ramos.layer import Built, new_layer, publish_layer, publish_sidecar, read_back
from ramos.merge import check_merged, group_layers, list_acls, merge_acls, write_merged
from ramos.mounts import mount_image
from ramos.places import Places
from ramos.room import check_room
from ramos.scan import DIRECTORIES, walk
from ramos.stage import copy_attributes, copy_entry
from ramos.stick import check_stick, read_boot
from ramos.store import make_tree, next_number, publish_generation, read_default, sweep
from ramos.view import Node, find_node, list_merged

Progress = Callable[[str, int, int], None]
READ_BYTES = 1 << 20
RESERVE_BYTES = 4 << 20


def restore_file(places: Places, generation: Generation, path: bytes, target: Path) -> int:
    """Put an entry (a directory with all in it) back as it was; how many entries that were."""
    name = path.strip(b"/")
    with Stacks(places) as stacks:
        tops = stacks.open_generation(generation)
        node = find_node(tops, name) if name else None
        if node is None:
            hint = f"'ramos diff {generation.number}' shows what is different now."
            obj = f"/{os.fsdecode(name)}"
            reason = f"generation {generation.number} does not have it"
            raise UsageError("cannot restore", obj, reason, "Nothing was changed", hint)
        beside = os.fsencode(target.with_name(f".{target.name}.ramos-{os.getpid()}"))
        try:
            acls = _collect_acls(places, generation, stacks)
            count = _copy_node(node, beside, acls)
            _put_in_place(beside, os.fsencode(target))
        except OSError as error:
            reason = error.strerror or str(error)
            raise RamosError("cannot restore to", target, reason, "It is what it was") from error
        finally:
            _remove(beside)
    return count


def _collect_acls(
    places: Places, generation: Generation, stacks: Stacks
) -> dict[bytes, list[tuple[str, bytes]]]:
    groups = group_layers(generation.saved)
    tops = [Path(os.fsdecode(stacks.mount(group[0].path))) for group in groups]
    found: dict[bytes, list[tuple[str, bytes]]] = {}
    for acl in list_acls(places.persist, groups, tops):
        found.setdefault(acl.path, []).append((WORDS[acl.word], acl.value))
    return found


def _copy_node(node: Node, target: bytes, acls: dict[bytes, list[tuple[str, bytes]]]) -> int:
    count = 1
    if node.kind in DIRECTORIES:
        os.mkdir(target)
        for child in list_merged(node.path, node.parts, whiteouts=False):
            count += _copy_node(child, os.path.join(target, os.path.basename(child.path)), acls)
        copy_attributes(node.real, target, node.status, keep_opaque=False)
    else:
        copy_entry(node.real, target, node.status)
    for name, value in acls.get(node.path, ()):
        os.setxattr(target, name, value, follow_symlinks=False)
    times = (node.status.st_atime_ns, node.status.st_mtime_ns)
    os.utime(target, ns=times, follow_symlinks=False)
    return count


def _put_in_place(new: bytes, target: bytes) -> None:
    """Rename over what is there; a directory in the way goes aside first."""
    try:
        os.rename(new, target)
    except OSError:
        if not os.path.lexists(target):
            raise
        aside = new + b"-old"
        os.rename(target, aside)
        os.rename(new, target)
        _remove(aside)


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def export(
    places: Places,
    generation: Generation,
    target: Path,
    config: SaveConfig,
    on_progress: Progress,
) -> int:
    """Write all layers of a generation as one plain image; its size."""
    if not generation.layers:
        raise UsageError("cannot export", f"generation {generation.number}", "it has no layers")
    if target.exists():
        raise UsageError("cannot export to", target, "it exists", "It is what it was")
    beside = target.with_name(f"{target.name}.tmp")
    try:
        with Stacks(places) as stacks:
            tops = [Path(os.fsdecode(top)) for top in stacks.open_layers(generation)]
            space = os.statvfs(target.parent)
            on_progress("merge", 0, 0)
            room = space.f_bavail * space.f_frsize - RESERVE_BYTES
            write_merged(list(reversed(tops)), places.base_dirs, beside, config, room)
            on_progress("verify", 0, 0)
            sync_file(beside)
            with mount_image(beside) as merged:
                check_merged([*tops, *places.base_dirs], [merged, *places.base_dirs])
            groups = group_layers(generation.saved)
            acls = merge_acls(places.persist, groups, list(reversed(tops)))
        if acls:
            target.with_name(f"{target.name}.acl").write_bytes(acls)
        beside.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        raise RamosError("cannot export to", target, error.strerror or error) from error
    finally:
        beside.unlink(missing_ok=True)
    return target.stat().st_size


def import_image(
    places: Places, image: Path, config: SaveConfig, *, add: bool, on_progress: Progress
) -> Generation:
    """Make an image the newest generation: alone, or on top of the default's layers."""
    with hold_lock(places.lock_file, "import"):
        boot = read_boot(places)
        check_stick(places, boot)
        make_tree(places.persist)
        sweep(places.persist)
        on_progress("read", 0, 0)
        expected = read_image(image)
        if image.stat().st_size > check_room(places, config):
            raise RamosError("cannot import", image, "it does not fit on the stick")
        on_progress("copy", 0, 0)
        new = [_store_image(places, image, expected)]
        sidecar = image.with_name(f"{image.name}.acl")
        if sidecar.exists():
            data = sidecar.read_bytes()
            list(parse_acls(data, sidecar.name))
            new.append(publish_sidecar(places.persist, data))
        default = read_default(places.persist)
        below = default.saved if add and default else ()
        made = Generation(
            number=next_number(places.persist),
            parent=default.number if default else 0,
            created=int(time.time()),
            kernel=boot.kernel or os.uname().release,
            reason="import",
            message=f"imported {image.name}",
            files=(*(default.base if default else ()), *below, *new),
        )
        publish_generation(places.persist, made)
        # What runs is not what was imported: a save at shutdown would put it back.
        places.rollback_file.write_text(f"{made.number} {made.number}\n")
        return made


def read_image(image: Path) -> str:
    """Read an image through the kernel, all of it; its sha256. A damaged one is refused."""
    if not image.is_file():
        raise UsageError("cannot import", image, "there is no such file", "Nothing was written")
    try:
        with mount_image(image) as top:
            root = os.fsencode(top)
            for entry in walk(root):
                if stat.S_ISREG(entry.status.st_mode):
                    _read_through(os.path.join(root, entry.path))
        return hash_file(image)
    except (OSError, RamosError) as error:
        reason = error.reason if isinstance(error, RamosError) else error.strerror
        hint = "It must be a whole squashfs image, as 'ramos export' writes them."
        raise DamagedError("cannot import", image, reason, "Nothing was written", hint) from error


def _read_through(path: bytes) -> None:
    with open(path, "rb", buffering=0) as file:
        while file.read(READ_BYTES):
            pass


def _store_image(places: Places, image: Path, expected: str) -> StoredFile:
    with new_layer(places.persist) as target:
        shutil.copyfile(image, target)
        digests = read_back(target)
        if digests.sha256 != expected:
            raise RamosError("cannot import", image, "it changed while it was copied")
        return publish_layer(places.persist, Built(target, digests))
