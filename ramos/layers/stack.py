"""What a stack of layers shows, by the rules of overlayfs, without mounting an overlay.

Owns: merging directories of raw layers: whiteouts, opaque directories, what hides what. Refuses:
writing. Invariants: a stack is given top first; entries come in the order of `scan.walk`; raw
whiteouts are kept where asked for, since below the stack there may be more to hide.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ramos.errors import RamosError
from ramos.layers.walk import DIRECTORIES, OPAQUE, WHITEOUT, find_kind


class Node(NamedTuple):
    """One entry of a merged tree.

    `real` is where its content and metadata are; `parts` are the directories that a directory
    merges, top first; `closed` means that nothing below the stack can show through.
    """

    path: bytes
    real: bytes
    status: os.stat_result
    kind: int
    parts: tuple[bytes, ...]
    closed: bool


def walk_view(tops: Sequence[bytes], *, whiteouts: bool = False) -> Iterator[Node]:
    """All entries of a stack, depth first, names by their bytes."""
    stack = [iter(list_merged(b"", tuple(tops), whiteouts=whiteouts))]
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            continue
        yield node
        if node.kind in DIRECTORIES:
            keep = whiteouts and not node.closed
            stack.append(iter(list_merged(node.path, node.parts, whiteouts=keep)))


def list_merged(path: bytes, parts: tuple[bytes, ...], *, whiteouts: bool) -> list[Node]:
    """The entries of one merged directory, sorted."""
    nodes: dict[bytes, Node] = {}
    for part in parts:
        try:
            with os.scandir(part) as entries:
                for entry in entries:
                    _merge(nodes, path, entry)
        except FileNotFoundError:
            continue  # the running system removed it while we look
        except OSError as error:
            raise RamosError("cannot read", os.fsdecode(part), error) from error
    found = (nodes[name] for name in sorted(nodes))
    return [node for node in found if whiteouts or node.kind != WHITEOUT]


def _merge(nodes: dict[bytes, Node], folder: bytes, entry: "os.DirEntry[bytes]") -> None:
    """Take an entry of a lower part into account."""
    above = nodes.get(entry.name)
    if above is not None and above.closed:
        return
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return  # the running system removed it while we look
    kind = find_kind(entry.path, status)
    is_directory = kind in DIRECTORIES
    if above is not None:  # an open directory: it merges with a directory, and ends at others
        parts = (*above.parts, entry.path) if is_directory else above.parts
        closed = kind == OPAQUE or not is_directory
        nodes[entry.name] = above._replace(parts=parts, closed=closed)
        return
    path = os.path.join(folder, entry.name) if folder else entry.name
    parts = (entry.path,) if is_directory else ()
    closed = kind == OPAQUE or not is_directory
    nodes[entry.name] = Node(path, entry.path, status, kind, parts, closed)


def find_node(tops: Sequence[bytes], path: bytes) -> Node | None:
    """What a stack shows at one path; None if nothing."""
    parts, walked = tuple(tops), b""
    node = None
    for name in path.split(b"/"):
        walked = os.path.join(walked, name) if walked else name
        node = _find_child(walked, name, parts)
        if node is None or node.kind == WHITEOUT:
            return None
        parts = node.parts
    return node


def _find_child(path: bytes, name: bytes, parts: tuple[bytes, ...]) -> Node | None:
    """One name in a merged directory."""
    node: Node | None = None
    for part in parts:
        real = os.path.join(part, name)
        try:
            status = os.lstat(real)
        except (FileNotFoundError, NotADirectoryError):
            continue
        kind = find_kind(real, status)
        is_directory = stat.S_ISDIR(status.st_mode)
        if node is None:
            closed = kind == OPAQUE or not is_directory
            node = Node(path, real, status, kind, (real,) if is_directory else (), closed)
        elif is_directory:
            node = node._replace(parts=(*node.parts, real), closed=kind == OPAQUE)
        else:
            node = node._replace(closed=True)
        if node.closed:
            break
    return node


def is_mentioned(top: bytes, path: bytes) -> bool:
    """Whether one layer says anything about a path: has it, removes it, or hides it."""
    walked = top
    for name in path.split(b"/"):
        walked = os.path.join(walked, name)
        try:
            status = os.lstat(walked)
        except OSError:
            return False
        if find_kind(walked, status) not in DIRECTORIES[:1]:
            return True  # a file, a whiteout or an opaque directory
    return True
