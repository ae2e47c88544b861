"""Merging neighbouring layers of a chain into one that shows the same.

Owns: which layers to merge, the merged stream, and its check against the kernel's own overlay.
Refuses: reading an overlay of the layers (it would lose the whiteouts that the base needs).
Invariant: below and above any other layers, the merged one gives the tree that the run gave.

The merged tree goes to mksquashfs as a tar stream, so nothing is unpacked: memory does not grow
with what is stored. Headers are made one by one; xattrs travel as LIBARCHIVE.xattr records.
"""

import base64
import contextlib
import os
import re
import stat
import tarfile
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

from ramos.config import SaveConfig
from ramos.errors import RamosError
from ramos.layers.acls import Acl, find_holder, parse_acls, render_acl
from ramos.layers.layer import (
    MAX_SAME_SIZE_PAIRS,
    READING_BACK,
    NewLayer,
    count_entries,
    list_limits,
    list_options,
    new_layer,
    publish_layer,
    publish_sidecar,
    read_back,
)
from ramos.layers.overlay import compare_stacks
from ramos.layers.stack import Node, find_node, is_mentioned, walk_view
from ramos.layers.stage import OWN_XATTRS, list_xattrs
from ramos.layers.walk import DIRECTORIES, OPAQUE_XATTR, SOCKET, WHITEOUT, Delta
from ramos.linux.beneath import open_top
from ramos.linux.fs import crash_point
from ramos.linux.mounts import mount_image
from ramos.linux.squashfs import DEFAULT_STAYS, run_squashfs
from ramos.progress import OnProgress, Progress
from ramos.store.generation import StoredFile

MERGING = "merging layers"
TAR_BLOCK_BYTES = 512
COPY_BYTES = 1 << 20
# mksquashfs 4.5.1 does not know this keyword and reads the bytes as they are, as it should; and it
# complains of device numbers that it then stores rightly. The comparison afterwards is the proof.
HARMLESS = re.compile(
    r'Unrecognised keyword "hdrcharset" in pax header, ignoring|M(aj|in)or -?\d+ out of range in '
    r"device node .*, truncating to \d+"
)

# What it says of appending cannot be told from complaints; here too the comparison is the proof.
ANYTHING = re.compile(".*")


def plan_run(sizes: Sequence[int], wanted: int) -> int:
    """From which layer on to merge (to the top), so that at most `wanted` layers are left.

    Small young layers are merged again and again, large old ones rarely: a layer joins when it is
    no larger than twice what is merged anyway.
    """
    start = min(max(wanted - 1, 0), max(len(sizes) - 2, 0))
    merged = sum(sizes[start:])
    while start > 0 and sizes[start - 1] <= 2 * merged:
        start -= 1
        merged += sizes[start]
    return start


def group_layers(files: Sequence[StoredFile]) -> list[tuple[StoredFile, ...]]:
    """Each layer with its sidecar."""
    groups: list[tuple[StoredFile, ...]] = []
    for file in files:
        if file.kind == "layer":
            groups.append((file,))
        else:
            groups[-1] = (*groups[-1], file)
    return groups


def merge_layers(
    persist: Path,
    files: Sequence[StoredFile],
    start: int,
    config: SaveConfig,
    max_bytes: int,
    base: Sequence[Path],
    on_progress: OnProgress,
) -> tuple[StoredFile, ...]:
    """The chain with everything from layer `start` on merged into one layer, published."""
    groups = group_layers(files)
    below, run = groups[:start], groups[start:]
    if len(run) < 2:
        return tuple(files)
    with contextlib.ExitStack() as stack:
        tops = [stack.enter_context(mount_image(persist / group[0].path)) for group in run]
        lower = [stack.enter_context(mount_image(persist / group[0].path)) for group in below]
        acls = merge_acls(persist, run, tops)
        target = stack.enter_context(new_layer(persist))
        under = [*reversed(lower), *base]
        on_progress(Progress(MERGING))
        write_merged(tops, under, target, config, max_bytes)
        crash_point("merge-written")
        built = NewLayer(target, read_back(target))
        on_progress(Progress(READING_BACK))
        with mount_image(target) as merged:
            check_merged([*reversed(tops), *under], [merged, *under])
        crash_point("merge-compared")
        made = [publish_layer(persist, built)]
    if acls:
        made.append(publish_sidecar(persist, acls))
    return (*(file for group in below for file in group), *made)


def check_merged(left: Sequence[Path], right: Sequence[Path]) -> None:
    """The kernel shows the same tree through the old layers and through the new one."""
    differences = compare_stacks(left, right)
    if differences:
        reason = f"it does not show what its parts showed: {'; '.join(differences)}"
        raise RamosError("cannot use", "the merged layer", reason, DEFAULT_STAYS)


def write_merged(
    tops: Sequence[Path], under: Sequence[Path], target: Path, config: SaveConfig, max_bytes: int
) -> None:
    """Stream the merged tree (layers bottom first) into a squashfs that goes on top of `under`."""
    names = [os.fsencode(top) for top in reversed(tops)]
    argv: list[str | Path] = ["mksquashfs", "-", target, "-tar", "-xattrs", "-exports"]
    delta = Delta() if are_few(names) else count_entries(walk_view(names))
    argv += list_options(config, delta)
    below = [os.fsencode(path) for path in under]
    run_squashfs(argv, target, max_bytes, lambda pipe: feed_tar(names, below, pipe), HARMLESS)
    set_root(names[0], target, list_limits(config, delta), max_bytes)


def are_few(tops: Sequence[bytes]) -> bool:
    """Whether these layers hold too little for its number of entries to matter to mksquashfs."""
    return sum(os.statvfs(top).f_files for top in tops) ** 2 <= MAX_SAME_SIZE_PAIRS


def set_root(top: bytes, target: Path, limits: Sequence[str], max_bytes: int) -> None:
    """Give the squashfs the owner, mode, time and xattrs of a directory.

    A tar stream cannot say anything of `/`; appending a directory does, here one without entries.
    """
    # mksquashfs is another process, and takes no link for a directory.
    source = top.replace(b"/proc/self/", b"/proc/%d/" % os.getpid(), 1) + b"/."
    argv: list[str | Path] = ["mksquashfs", os.fsdecode(source), target]
    argv += [*limits, "-regex", "-e", ".*"]
    run_squashfs(argv, target, max_bytes, harmless=ANYTHING)


def list_nodes(tops: Sequence[bytes], below: Sequence[bytes]) -> Iterator[Node]:
    """The merged tree, without whiteouts in directories that have nothing below them.

    They would hide nothing, and overlayfs lists them (as entries that are not there) where it has
    no other directory to merge with. With nothing known of what is below, all are kept.
    """
    folder, is_merged = b"", True
    for node in walk_view(tops, whiteouts=True):
        if node.kind == WHITEOUT:
            if os.path.dirname(node.path) != folder:
                folder = os.path.dirname(node.path)
                found = find_node(below, folder)
                is_merged = not below or (found is not None and found.kind in DIRECTORIES)
            if not is_merged:
                continue
        yield node


def feed_tar(tops: Sequence[bytes], below: Sequence[bytes], pipe: int) -> None:
    """Write the merged tree as a tar stream."""
    links: dict[tuple[int, int], bytes] = {}
    with open(pipe, "wb", closefd=False, buffering=COPY_BYTES) as stream:
        for node in list_nodes(tops, below):
            if node.kind == SOCKET:
                continue
            status = node.status
            is_directory = stat.S_ISDIR(status.st_mode)
            key = (status.st_dev, status.st_ino)
            first = links.get(key) if not is_directory and status.st_nlink > 1 else None
            stream.write(make_header(node, first))
            if stat.S_ISREG(status.st_mode) and first is None:
                for chunk in read_padded(node.real, status.st_size):
                    stream.write(chunk)
            if not is_directory and status.st_nlink > 1:
                links.setdefault(key, node.path)
        stream.write(bytes(2 * TAR_BLOCK_BYTES))


def make_header(node: Node, first: bytes | None) -> bytes:
    """The tar header (pax) of an entry; `first` is the name it is a hard link to."""
    status = node.status
    info = tarfile.TarInfo(os.fsdecode(node.path))
    info.mode, info.uid, info.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    info.mtime = status.st_mtime_ns // 10**9
    info.type = _find_type(status.st_mode)
    if first is not None:
        info.type, info.linkname = tarfile.LNKTYPE, os.fsdecode(first)
    elif stat.S_ISREG(status.st_mode):
        info.size = status.st_size
    elif stat.S_ISLNK(status.st_mode):
        info.linkname = os.fsdecode(os.readlink(node.real))
    elif node.kind != WHITEOUT:
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    if first is None:
        info.pax_headers = dict(_list_records(node))
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _find_type(mode: int) -> bytes:
    types = {
        stat.S_IFDIR: tarfile.DIRTYPE,
        stat.S_IFLNK: tarfile.SYMTYPE,
        stat.S_IFCHR: tarfile.CHRTYPE,
        stat.S_IFBLK: tarfile.BLKTYPE,
        stat.S_IFIFO: tarfile.FIFOTYPE,
    }
    return types.get(stat.S_IFMT(mode), tarfile.REGTYPE)


def _list_records(node: Node) -> Iterator[tuple[str, str]]:
    """Xattrs as pax records; the opaque marker follows from the merge, not from the top part."""
    for name in list_xattrs(node.real):
        if name.startswith(OWN_XATTRS):
            continue
        value = os.getxattr(node.real, name, follow_symlinks=False)
        yield _make_record(name, value)
    if stat.S_ISDIR(node.status.st_mode) and node.closed:
        yield _make_record(OPAQUE_XATTR, b"y")


def _make_record(name: str, value: bytes) -> tuple[str, str]:
    # mksquashfs refuses the padding of base64.
    encoded = base64.b64encode(value).decode("ascii").rstrip("=")
    return f"LIBARCHIVE.xattr.{urllib.parse.quote(name)}", encoded


def read_padded(path: bytes, size: int) -> Iterator[bytes]:
    """A file's bytes, filled up to whole tar blocks."""
    with open(path, "rb", buffering=0) as file:
        left = size
        while left:
            chunk = file.read(min(left, COPY_BYTES))
            if not chunk:
                raise RamosError("cannot read", os.fsdecode(path), "it ended early", DEFAULT_STAYS)
            left -= len(chunk)
            yield chunk
    yield bytes(-size % TAR_BLOCK_BYTES)


def merge_acls(
    persist: Path, groups: Sequence[Sequence[StoredFile]], tops: Sequence[Path]
) -> bytes:
    """The sidecar of a merged run."""
    lines = (render_acl(acl) for acl in list_acls(persist, groups, tops))
    return "".join(lines).encode("ascii")


def list_acls(
    persist: Path, groups: Sequence[Sequence[StoredFile]], tops: Sequence[Path]
) -> Iterator[Acl]:
    """The ACLs in force: of each layer (bottom first) those that no layer above speaks about.

    As at a boot, what its own layer has not as it was recorded has none.
    """
    names = [os.fsencode(top) for top in tops]
    for number, group in enumerate(groups):
        for sidecar in group[1:]:
            data = (persist / sidecar.path).read_bytes()
            with open_top(names[number]) as layer:
                for acl in parse_acls(data, sidecar.path):
                    known = find_holder(layer, acl)
                    above = names[number + 1 :]
                    if known is not None and not any(is_mentioned(top, acl.path) for top in above):
                        yield known
