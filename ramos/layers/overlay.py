"""The kernel's own overlay over some layers, in a mount namespace of its own.

Owns: that namespace, and comparing two stacks through it. Refuses: changing the namespace of this
process. Invariant: the mounts live in a child and are gone with it.
"""

import ctypes
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ramos.layers.compare import find_differences
from ramos.linux.forked import forked

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_REC, MS_PRIVATE = 1, 0x4000, 0x40000
SYS_MOVE_MOUNT, MOVE_MOUNT_F_EMPTY_PATH, AT_FDCWD = 429, 4, -100
# A directory that is there on every Linux, and under which no layer and no base can lie.
MOUNT_POINT = b"/sys"


def compare_stacks(left: Sequence[Path], right: Sequence[Path]) -> list[str]:
    """The first differences between what two stacks (top first) show; none if they agree."""
    with forked(lambda: _compare(left, right), "two stacks of layers") as wait:
        return list(json.loads(wait()))


def _compare(left: Sequence[Path], right: Sequence[Path]) -> bytes:
    _call("unshare", CLONE_NEWNS)
    _call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    _call("mount", b"tmpfs", MOUNT_POINT, b"tmpfs", 0, b"size=1m")
    stacks = []
    for number, stack in enumerate((left, right)):
        lower = [_attach(path, f"{number}-{index}") for index, path in enumerate(stack)]
        stacks.append(_mount_overlay(lower, f"{number}"))
    return json.dumps(find_differences(stacks[0], stacks[1])).encode("ascii")


def _attach(path: Path, name: str) -> Path:
    """Give a detached mount a name (an overlay takes no other); any other path has one."""
    parts = path.parts
    if parts[:4] != ("/", "proc", "self", "fd"):
        return path
    place = Path(os.fsdecode(MOUNT_POINT)) / name
    place.mkdir()
    arguments = (int(parts[4]), b"", AT_FDCWD, os.fsencode(place), MOVE_MOUNT_F_EMPTY_PATH)
    _call("syscall", SYS_MOVE_MOUNT, *arguments)
    return place


def _mount_overlay(lower: Sequence[Path], name: str) -> Path:
    place = Path(os.fsdecode(MOUNT_POINT)) / name
    place.mkdir()
    below = place.with_name(f"{name}-bottom")
    below.mkdir()  # an overlay without an upper needs two layers
    options = f"lowerdir={':'.join(str(path) for path in (*lower, below))}"
    options += ",redirect_dir=nofollow,metacopy=off,index=off"
    _call("mount", b"overlay", os.fsencode(place), b"overlay", MS_RDONLY, options.encode())
    return place


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
