"""The oracle: whatever was done to a running system and saved, the next boot shows the same.

Random histories of changes, commits, boots, rollbacks, prunings and compactions, on a real overlay
over real layers. The kernel's overlayfs says what is right; the engine has to agree.
"""

import contextlib
import os
import shutil
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from ramos.config import SaveConfig
from ramos.save import compact, history
from ramos.store.generation import Generation
from ramos.store.generations import read_default
from tests.labs.lab import Lab
from tests.labs.tree import ACL, ACL_NAMES, Shape, capture, explain

HISTORIES = int(os.environ.get("RAMOS_HISTORIES", "250"))
CONFIG = SaveConfig(reserve_mib=1, max_layers=4, keep=3, exclude=("tmp/*", "*.skip"))
NAMES = (b"a", b"b", b"one", b"c", b"n\nl", b"\xff\xfe", b" -x", b"y.skip")
TIMES = (0, 1, -1, -315619200, 1 << 31, (1 << 32) + 5, 1700000000)

Story = list[tuple[list[tuple[str, Any, Any]], tuple[str, Any]]]

paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(b"/".join)
changes = st.one_of(
    st.tuples(st.just("write"), paths, st.integers(0, 3)),
    st.tuples(st.just("write"), paths, st.integers(0, 3)),
    st.tuples(st.just("mkdir"), paths, st.just(0)),
    st.tuples(st.just("mkdir"), paths, st.just(0)),
    st.tuples(st.just("remove"), paths, st.just(0)),
    st.tuples(st.just("renew"), paths, st.just(0)),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("link"), paths, paths),
    st.tuples(st.just("symlink"), paths, paths),
    st.tuples(st.just("chmod"), paths, st.sampled_from((0o4755, 0o600, 0o1777, 0o2750))),
    st.tuples(st.just("chown"), paths, st.sampled_from((0, 1000, 65534, 4000000000))),
    st.tuples(st.just("utime"), paths, st.sampled_from(TIMES)),
    st.tuples(st.just("xattr"), paths, st.binary(max_size=6)),
    st.tuples(st.just("unxattr"), paths, st.just(0)),
    st.tuples(st.just("acl"), paths, st.booleans()),
    st.tuples(st.just("special"), paths, st.sampled_from(("fifo", "block", "char", "socket"))),
    st.tuples(st.just("sparse"), paths, st.integers(1, 300000)),
)
controls = st.sampled_from(
    [("commit", False)] * 6
    + [("commit", True)] * 2  # as at each shutdown with changes on a tmpfs
    + [("boot", "default"), ("boot", "default"), ("boot", "backup")]
    + [("rollback", n) for n in range(3)]
    + [("prune", 2), ("prune", 3), ("compact", False), ("compact", True)]
)
stories = st.lists(st.tuples(st.lists(changes, max_size=6), controls), min_size=3, max_size=9)


def apply_change(root: Path, name: str, path: bytes, value: Any) -> None:
    """One change, as a program would make it; what the kernel refuses is no change."""
    full = os.path.join(os.fsencode(root), path)
    with contextlib.suppress(OSError):
        CHANGES[name](full, value, os.fsencode(root))


def write(full: bytes, value: Any, _root: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK  # a fifo has no reader
    descriptor = os.open(full, flags | (os.O_APPEND if value == 3 else os.O_TRUNC), 0o644)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(b"content %d" % value)


def renew(full: bytes, _value: Any, _root: bytes) -> None:
    """A directory replaced by an empty one, or by a file, and a file by a directory."""
    was_directory = stat.S_ISDIR(os.lstat(full).st_mode)
    remove(full, 0, b"")
    if not was_directory or full.endswith(b"b"):
        os.mkdir(full)
    else:
        write(full, 1, b"")


def remove(full: bytes, _value: Any, _root: bytes) -> None:
    if stat.S_ISDIR(os.lstat(full).st_mode):
        shutil.rmtree(full)
    else:
        os.unlink(full)


def special(full: bytes, value: Any, _root: bytes) -> None:
    if value == "socket":
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(full)
        return
    kind = {"fifo": stat.S_IFIFO, "block": stat.S_IFBLK, "char": stat.S_IFCHR}[str(value)]
    os.mknod(full, kind | 0o640, 0 if value == "fifo" else os.makedev(259, 70000))


def sparse(full: bytes, value: Any, _root: bytes) -> None:
    descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o644)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.seek(int(value) * 17)
        file.write(b"end")


CHANGES: dict[str, Callable[[bytes, Any, bytes], object]] = {
    "write": write,
    "mkdir": lambda full, _v, _r: os.makedirs(full),
    "remove": remove,
    "renew": renew,
    "rename": lambda full, value, root: os.rename(full, os.path.join(root, value)),
    "link": lambda full, value, root: os.link(
        full, os.path.join(root, value), follow_symlinks=False
    ),
    "symlink": lambda full, value, _r: os.symlink(value, full),
    "chmod": lambda full, value, _r: os.chmod(full, value, follow_symlinks=True),
    "chown": lambda full, value, _r: os.chown(full, value, value, follow_symlinks=False),
    "utime": lambda full, value, _r: os.utime(
        full, ns=(0, value * 10**9 + 5), follow_symlinks=False
    ),
    "xattr": lambda full, value, _r: os.setxattr(full, "trusted.test", value),
    "unxattr": lambda full, _v, _r: os.removexattr(full, "trusted.test"),
    "acl": lambda full, value, _r: (
        os.setxattr(full, ACL_NAMES[0], ACL) if value else os.removexattr(full, ACL_NAMES[0])
    ),
    "special": special,
    "sparse": sparse,
}


class Run:
    """One history: what every generation has to show."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.expected: dict[int, Shape] = {}
        shutil.rmtree(lab.places.persist / "upperfs", ignore_errors=True)
        self.lab.boot_first()

    def see(self) -> Shape:
        return capture(self.lab.places.root, CONFIG.exclude)

    def commit(self, full: object) -> None:
        seen = self.see()
        report = self.lab.commit(full=full, config=CONFIG)
        if report.generation:
            self.expected[report.generation] = seen
        event(f"layers {report.layers}")

    def boot(self, mode: object) -> None:
        event("boot")
        default = read_default(self.lab.places.persist)
        if default is None or (mode == "backup" and default.parent not in self.expected):
            return
        chosen = default.parent if mode == "backup" else default.number
        self.lab.restore = ("mount", "ram", "unpack")[self.lab.boots % 3]
        self.lab.boot(chosen)
        self.lab.places.boot_file.write_text(f"mode={mode}\ngeneration={chosen}\n")
        self.check(self.lab.find(chosen, "default"))

    def check(self, generation: Generation | None) -> None:
        assert generation is not None
        assert not explain(self.expected[generation.number], self.see())

    def rollback(self, choice: Any) -> None:
        numbers = self.lab.numbers()
        if not numbers:
            return
        target = numbers[int(choice) % len(numbers)]
        made = history.rollback(self.lab.places, target, lambda *_: None)
        self.expected[made.number] = self.expected[target]

    def prune(self, keep: Any) -> None:
        if self.lab.numbers() and history.list_protected(self.lab.places):
            history.prune_now(self.lab.places, replace(CONFIG, keep=int(keep)))

    def compact(self, everything: object) -> None:
        default = read_default(self.lab.places.persist)
        if default is None:
            return
        report = compact.compact(
            self.lab.places, CONFIG, everything=bool(everything), on_progress=lambda *_: None
        )
        if report.generation:
            event("compacted")
            self.expected[report.generation] = self.expected[default.number]


@pytest.fixture(scope="module", params=["btrfs", "tmpfs"])
def lab(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    private_package: None,  # noqa: ARG001
) -> Lab:
    return Lab(tmp_path_factory.mktemp("oracle"), upper_kind=request.param).make()


@settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
@given(story=stories)
def test_what_was_saved_is_what_boots(lab: Lab, story: Story) -> None:
    run = Run(lab)
    try:
        for work, (name, value) in [*story, ([], ("commit", False)), ([], ("boot", "default"))]:
            for change, path, detail in work:
                apply_change(lab.places.root, change, path, detail)
            getattr(run, name)(value)
    finally:
        lab.shut_down()
