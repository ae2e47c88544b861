"""What differs between two saved states, or between a saved state and the running system.

Owns: stacks of mounted layers for a generation and for what runs, and comparing two of them.
Refuses: mounting overlays. Invariant: directories that consist of the same parts in both stacks are
not entered, so the cost is that of what differs.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ramos.layers.compare import compare_content, read_xattrs
from ramos.layers.obstacles import MAX_PATH_BYTES
from ramos.layers.stack import Node, list_merged
from ramos.layout import Places
from ramos.linux.mounts import mount_image
from ramos.store.generation import Generation

Parts = tuple[bytes, ...]
Skip = Callable[[bytes], bool]


@dataclass(frozen=True)
class Change:
    """One entry that is not the same: `what` is added, deleted, replaced or changed.

    What is `too deep` cannot be saved, nor can what is in it. Of what is `written` nobody but root
    knows whether it is new or changed.
    """

    path: bytes
    what: str
    kind: str
    size_before: int
    size_after: int
    details: tuple[str, ...] = ()


@dataclass
class Stacks:
    """Layers mounted once, however many generations hold them."""

    places: Places
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    mounted: dict[str, bytes] = field(default_factory=dict)

    def __enter__(self) -> "Stacks":
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def mount(self, path: str) -> bytes:
        """The tree of one layer."""
        if path not in self.mounted:
            image = self.stack.enter_context(mount_image(self.places.persist / path))
            self.mounted[path] = os.fsencode(image)
        return self.mounted[path]

    def open_layers(self, generation: Generation | None) -> list[bytes]:
        """The layers of a generation alone, top first."""
        layers = generation.layers if generation else ()
        return [self.mount(layer.path) for layer in reversed(layers)]

    def open_generation(self, generation: Generation | None) -> list[bytes]:
        """What a boot of this generation would show, top first; without one, the base alone."""
        return [*self.open_layers(generation), *map(os.fsencode, self.places.base_dirs)]

    def open_running(self, booted: Generation | None) -> list[bytes]:
        """What the running system shows."""
        return [os.fsencode(self.places.upper_dir), *self.open_generation(booted)]


def compare_views(
    before: Sequence[bytes], after: Sequence[bytes], skip: Skip | None = None
) -> Iterator[Change]:
    """What became different from one stack to another, depth first.

    What is too deep to be saved is named, and not entered.
    """
    skip = skip or (lambda _path: False)
    stack = [_list_pairs(b"", tuple(before), tuple(after))]
    while stack:
        pair = next(stack[-1], None)
        if pair is None:
            stack.pop()
            continue
        path = (pair[0] or pair[1]).path  # type: ignore[union-attr]
        if skip(path):
            continue
        if len(path) > MAX_PATH_BYTES:
            yield from _name_too_deep(*pair)
            continue
        yield from _compare_nodes(*pair)
        old, new = (node.parts if node else () for node in pair)
        stack.append(_list_pairs(path, old, new))


def _list_pairs(
    path: bytes, before: Parts, after: Parts
) -> Iterator[tuple[Node | None, Node | None]]:
    """What two merged directories hold, by name; nothing if they are of the same parts."""
    if before == after:
        return
    old = {node.path: node for node in list_merged(path, before, whiteouts=False)}
    new = {node.path: node for node in list_merged(path, after, whiteouts=False)}
    for name in sorted(old.keys() | new.keys()):
        yield old.pop(name, None), new.pop(name, None)


def _compare_nodes(old: Node | None, new: Node | None) -> Iterator[Change]:
    if old is None or new is None:
        node = old or new
        assert node is not None
        yield _describe(node, "deleted" if new is None else "added")
    elif stat.S_IFMT(old.status.st_mode) != stat.S_IFMT(new.status.st_mode):
        yield Change(
            new.path,
            "replaced",
            name_kind(new.status),
            _size(old),
            _size(new),
            (f"{name_kind(old.status)} became {name_kind(new.status)}",),
        )
    elif old.real != new.real and (details := tuple(list_details(old, new))):
        yield Change(new.path, "changed", name_kind(new.status), _size(old), _size(new), details)


def _name_too_deep(old: Node | None, new: Node | None) -> Iterator[Change]:
    if new is not None and (old is None or old.real != new.real):
        yield Change(new.path, "too deep", name_kind(new.status), 0, 0, ("it cannot be saved",))


def _describe(node: Node, what: str) -> Change:
    size = _size(node)
    sizes = (size, 0) if what == "deleted" else (0, size)
    return Change(node.path, what, name_kind(node.status), *sizes)


def _size(node: Node) -> int:
    return node.status.st_size if stat.S_ISREG(node.status.st_mode) else 0


def name_kind(status: os.stat_result) -> str:
    """A word for what an entry is."""
    kinds = {
        stat.S_IFDIR: "directory",
        stat.S_IFREG: "file",
        stat.S_IFLNK: "symlink",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
        stat.S_IFIFO: "fifo",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(status.st_mode), "entry")


def list_details(old: Node, new: Node) -> Iterator[str]:
    """In what two entries of one type differ."""
    a, b = old.status, new.status
    if stat.S_ISREG(a.st_mode):
        if a.st_size != b.st_size or compare_content(old.real, new.real):
            yield "content"
    elif stat.S_ISLNK(a.st_mode):
        if os.readlink(old.real) != os.readlink(new.real):
            yield "target"
    elif not stat.S_ISDIR(a.st_mode) and a.st_rdev != b.st_rdev:
        yield "device number"
    if a.st_mode != b.st_mode:
        yield f"mode {stat.S_IMODE(a.st_mode):o} to {stat.S_IMODE(b.st_mode):o}"
    if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid):
        yield f"owner {a.st_uid}:{a.st_gid} to {b.st_uid}:{b.st_gid}"
    if _read_user_xattrs(old.real) != _read_user_xattrs(new.real):
        yield "xattrs"
    if not stat.S_ISDIR(a.st_mode) and a.st_mtime_ns // 10**9 != b.st_mtime_ns // 10**9:
        yield "time"


def _read_user_xattrs(path: bytes) -> dict[str, bytes]:
    """The xattrs that a user can see: not those of overlayfs."""
    return {k: v for k, v in read_xattrs(path).items() if not k.startswith("trusted.overlay.")}


def match_paths(paths: Sequence[Path]) -> Sequence[bytes]:
    """The paths asked for, as they are named in a tree."""
    return [os.fsencode(path).strip(b"/") for path in paths]


def is_below(path: bytes, wanted: Sequence[bytes]) -> bool:
    """Whether a path is one of those asked for, or below one; all are, if none was named."""
    return not wanted or any(path == name or path.startswith(name + b"/") for name in wanted)
