"""Taking things out of a generation and bringing them in: single files, and whole images.

Owns: restore-file, export and import. Refuses: overwriting on the stick; an import is a new
generation. Invariants: what is restored or exported has its final name only once it is complete;
an imported image was read as a whole, from its source and back from the stick.
"""

import contextlib
import errno
import os
import shutil
import stat
import time
from pathlib import Path

from ramos.booted import read_boot
from ramos.config import SaveConfig
from ramos.errors import DamagedError, RamosError, UsageError
from ramos.layers.acls import WORDS, Acl, describe_holder, find_holder, parse_acls
from ramos.layers.layer import (
    READING_BACK,
    NewLayer,
    new_layer,
    publish_layer,
    publish_sidecar,
    read_back,
)
from ramos.layers.merge import (
    MERGING,
    check_merged,
    group_layers,
    list_acls,
    merge_acls,
    write_merged,
)
from ramos.layers.stack import Node, find_node, list_merged
from ramos.layers.stage import copy_attributes, copy_entry
from ramos.layers.walk import DIRECTORIES, walk
from ramos.layout import Places
from ramos.linux.beneath import (
    make_workplace,
    name_handle,
    open_folder,
    open_top,
    remove_entry,
)
from ramos.linux.fs import hash_file, hold_lock, sync_directory, sync_file
from ramos.linux.mounts import mount_image
from ramos.progress import OnProgress, Progress
from ramos.save.after import settle
from ramos.save.diff import Stacks
from ramos.save.space import check_room
from ramos.stick.check import check_stick
from ramos.store.generation import Generation, StoredFile
from ramos.store.generations import (
    make_tree,
    next_number,
    publish_generation,
    read_default,
    sweep,
    write_synced,
)

READ_BYTES = 1 << 20
RESERVE_BYTES = 4 << 20
NEW, OLD = b"new", b"old"
IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


def restore_file(places: Places, generation: Generation, path: bytes, target: Path) -> int:
    """Put an entry (a directory with all in it) back as it was; how many entries that were.

    The directory it goes to may be another user's: the copy is made where nobody else gets in, and
    no link is followed that others than root could change.
    """
    name = path.strip(b"/")
    with Stacks(places) as stacks:
        tops = stacks.open_generation(generation)
        node = find_node(tops, name) if name else None
        if node is None:
            hint = f"'ramos diff {generation.number}' shows what is different now."
            obj = f"/{os.fsdecode(name)}"
            reason = f"generation {generation.number} does not have it"
            raise UsageError("cannot restore", obj, reason, hint=hint)
        folder, goal = split_target(target)
        try:
            acls = _collect_acls(places, generation, stacks)
            with open_folder(folder) as parent, make_workplace(parent) as work:
                count = _copy_node(node, os.path.join(name_handle(work), NEW), acls)
                _put_in_place(work, parent, goal)
        except OSError as error:
            raise RamosError("cannot restore to", target, error, "It is what it was") from error
    return count


def split_target(target: Path) -> tuple[bytes, bytes]:
    """The directory that something is to be put into, and its name there."""
    folder, name = os.path.split(os.path.abspath(os.fsencode(target)))
    if not name:
        raise UsageError("cannot write to", target, "it is no name of a file")
    return folder, name


def _collect_acls(places: Places, generation: Generation, stacks: Stacks) -> dict[bytes, list[Acl]]:
    groups = group_layers(generation.saved)
    tops = [Path(os.fsdecode(stacks.mount(group[0].path))) for group in groups]
    found: dict[bytes, list[Acl]] = {}
    for acl in list_acls(places.persist, groups, tops):
        found.setdefault(acl.path, []).append(acl)
    return found


def _copy_node(node: Node, target: bytes, acls: dict[bytes, list[Acl]]) -> int:
    count = 1
    if node.kind in DIRECTORIES:
        os.mkdir(target)
        for child in list_merged(node.path, node.parts, whiteouts=False):
            count += _copy_node(child, os.path.join(target, os.path.basename(child.path)), acls)
        copy_attributes(node.real, target, node.status, keep_opaque=False)
    else:
        copy_entry(node.real, target, node.status)
    for acl in acls.get(node.path, ()):
        if acl.holder == describe_holder(node.status):
            os.setxattr(target, WORDS[acl.word], acl.value, follow_symlinks=False)
    times = (node.status.st_atime_ns, node.status.st_mtime_ns)
    os.utime(target, ns=times, follow_symlinks=False)
    return count


def _put_in_place(work: int, parent: int, name: bytes) -> None:
    """Rename over what is there; a directory in the way goes aside first."""
    try:
        os.rename(NEW, name, src_dir_fd=work, dst_dir_fd=parent)
        return
    except OSError as error:
        if error.errno not in IN_THE_WAY:
            raise
    try:
        os.rename(name, OLD, src_dir_fd=parent, dst_dir_fd=work)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        remove_entry(parent, name)  # overlayfs moves no directory of which a part is in a layer
    os.rename(NEW, name, src_dir_fd=work, dst_dir_fd=parent)


def export(
    places: Places,
    generation: Generation,
    target: Path,
    config: SaveConfig,
    on_progress: OnProgress,
) -> int:
    """Write all layers of a generation as one plain image; its size."""
    if not generation.layers:
        raise UsageError("cannot export", f"generation {generation.number}", "it has no layers")
    if os.path.lexists(target):
        raise UsageError("cannot export to", target, "it exists")
    folder, name = split_target(target)
    try:
        with open_folder(folder) as parent, make_workplace(parent) as work:
            place = name_place(work)
            acls = _export_into(places, generation, place / "image", config, on_progress)
            return deliver(place, parent, name, acls)
    except OSError as error:
        raise RamosError("cannot export to", target, error) from error


def name_place(work: int) -> Path:
    """An open directory as a path that leads there for the programs that we start, too."""
    return Path(f"/proc/{os.getpid()}/fd/{work}")


def _export_into(
    places: Places,
    generation: Generation,
    image: Path,
    config: SaveConfig,
    on_progress: OnProgress,
) -> bytes:
    """Write the image and compare it; the ACLs that belong to it."""
    with Stacks(places) as stacks:
        tops = [Path(os.fsdecode(top)) for top in stacks.open_layers(generation)]
        space = os.statvfs(image.parent)
        on_progress(Progress(MERGING))
        room = space.f_bavail * space.f_frsize - RESERVE_BYTES
        write_merged(list(reversed(tops)), places.base_dirs, image, config, room)
        on_progress(Progress(READING_BACK))
        sync_file(image)
        with mount_image(image) as merged:
            check_merged([*tops, *places.base_dirs], [merged, *places.base_dirs])
        groups = group_layers(generation.saved)
        return merge_acls(places.persist, groups, list(reversed(tops)))


def deliver(place: Path, parent: int, name: bytes, acls: bytes) -> int:
    """Give an image that is complete its name, its ACLs beside it; its size."""
    if acls:
        write_synced(place / "acls", acls, 0o600)
        os.rename(place / "acls", name + b".acl", dst_dir_fd=parent)
    size = (place / "image").stat().st_size
    with contextlib.suppress(OSError):  # FAT has no modes
        (place / "image").chmod(0o600)  # it holds what others may not read
    os.rename(place / "image", name, dst_dir_fd=parent)
    sync_directory(Path(os.fsdecode(name_handle(parent))))
    return size


def import_image(
    places: Places, image: Path, config: SaveConfig, *, add: bool, on_progress: OnProgress
) -> Generation:
    """Make an image the newest generation: alone, or on top of the default's layers."""
    with hold_lock(places.lock_file, "import"):
        boot = read_boot(places)
        check_stick(places, boot)
        make_tree(places.persist)
        sweep(places.persist)
        on_progress(Progress("reading"))
        acls = _read_sidecar(image)
        expected = read_image(image, acls)
        if image.stat().st_size > check_room(places, config):
            raise RamosError("cannot import", image, "it does not fit on the stick")
        on_progress(Progress("copying"))
        new = [_store_image(places, image, expected)]
        if acls:
            new.append(publish_sidecar(places.persist, acls))
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
    settle(places, made.reason, generation=made.number)
    return made


def _read_sidecar(image: Path) -> bytes:
    """The ACLs beside an image; nothing where there are none."""
    try:
        return image.with_name(f"{image.name}.acl").read_bytes()
    except FileNotFoundError:
        return b""


def read_image(image: Path, acls: bytes = b"") -> str:
    """Read an image through the kernel, all of it; its sha256. A damaged one is refused, and so is
    one that lacks what its ACLs are for."""
    if not image.is_file():
        raise UsageError("cannot import", image, "there is no such file")
    try:
        with mount_image(image) as top:
            root = os.fsencode(top)
            for entry in walk(root):
                if stat.S_ISREG(entry.status.st_mode):
                    _read_through(os.path.join(root, entry.path))
            _refuse_strange(acls, top, f"{image.name}.acl")
        return hash_file(image)
    except (OSError, RamosError) as error:
        hint = "It must be a whole squashfs image, as 'ramos export' writes them."
        raise DamagedError("cannot import", image, error, "Nothing was written", hint) from error


def _refuse_strange(acls: bytes, top: Path, name: str) -> None:
    """ACLs for anything but what is in the image."""
    with open_top(top) as layer:
        for acl in parse_acls(acls, name):
            if find_holder(layer, acl) is None:
                reason = f"the image does not have {os.fsdecode(acl.path)!r} as it says"
                raise DamagedError("cannot use", name, reason)


def _read_through(path: bytes) -> None:
    with open(path, "rb", buffering=0) as file:
        while file.read(READ_BYTES):
            pass


def _store_image(places: Places, image: Path, expected: str) -> StoredFile:
    with new_layer(places.persist) as target:
        target.touch(mode=0o600)
        shutil.copyfile(image, target)
        digests = read_back(target)
        if digests.sha256 != expected:
            raise RamosError("cannot import", image, "it changed while it was copied")
        return publish_layer(places.persist, NewLayer(target, digests))
