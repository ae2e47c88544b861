"""The kernel's own overlay over some layers, in a mount namespace of its own.

Owns: that namespace, and comparing two stacks through it. Refuses: changing the namespace of this
process. Invariant: the mounts live in a child and are gone with it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ramos.layers.compare import find_differences
from ramos.linux import syscalls
from ramos.linux.child import forked

# A directory that is there on every Linux, and under which no layer and no base can lie.
MOUNT_POINT = Path("/sys")


def compare_stacks(left: Sequence[Path], right: Sequence[Path]) -> list[str]:
    """The first differences between what two stacks (top first) show; none if they agree."""
    with forked(lambda: _compare(left, right), "two stacks of layers") as wait:
        return list(json.loads(wait()))


def _compare(left: Sequence[Path], right: Sequence[Path]) -> bytes:
    syscalls.leave_mounts()
    syscalls.mount(Path("tmpfs"), MOUNT_POINT, "tmpfs", options="size=1m")
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
    place = MOUNT_POINT / name
    place.mkdir()
    syscalls.attach_mount(int(parts[4]), place)
    return place


def _mount_overlay(lower: Sequence[Path], name: str) -> Path:
    place = MOUNT_POINT / name
    place.mkdir()
    below = place.with_name(f"{name}-bottom")
    below.mkdir()  # an overlay without an upper needs two layers
    options = f"lowerdir={':'.join(str(path) for path in (*lower, below))}"
    options += ",redirect_dir=nofollow,metacopy=off,index=off"
    syscalls.mount(Path("overlay"), place, "overlay", syscalls.MS_RDONLY, options)
    return place
