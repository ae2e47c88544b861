"""One stick and one running system on which saves are made to fail, again and again.

Owns: a save in a child process with a fault in its way, and the question afterwards: is the store
whole, is the default an allowed one, does the next save work, does it leave no litter, and does a
boot of what was saved show exactly what the running system shows?
"""

import contextlib
import functools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ramos import layout
from ramos.config import SaveConfig
from ramos.errors import RamosError
from ramos.linux.fs import CRASH_VARIABLE, TEMPORARY_SUFFIX
from ramos.save.commit import CommitReport, CommitRequest, commit
from tests.crash import mounts
from tests.crash.check import check_store, read_truth
from tests.crash.device import PERSIST_OPTIONS
from tests.crash.machine import Machine, change_tree, read_newest
from tests.crash.workloads import IMAGE_BYTES, build_system, make_image
from tests.labs.tree import ACL, ACL_NAMES, capture, explain

WAIT_SECONDS = 10.0
CONFIG = SaveConfig(keep=2, reserve_mib=8)
Prepare = Callable[[], None]


@dataclass(frozen=True)
class Attempt:
    """How a save in a child process ended."""

    exit_code: int
    killed: bool
    message: str
    seconds: float


@dataclass(frozen=True)
class Case:
    """One fault: what it was, how the save ended, what was wrong then (nothing, if all is well)."""

    name: str
    ended: str
    problem: str


def describe(attempt: Attempt) -> str:
    """How a save ended, in a word or a message."""
    if attempt.killed:
        return "killed"
    return attempt.message or "saved"


@dataclass
class Rig:
    """A store with some history, mounted, and a system started from it."""

    home: Path
    chance: random.Random
    upper_type: str = "btrfs"
    machine: Machine = field(init=False)

    def __post_init__(self) -> None:
        self.machine = Machine(self.home, self.upper_type)

    @property
    def persist(self) -> Path:
        """Where the store is mounted."""
        return self.home / "persist"

    def request(self, **options: object) -> CommitRequest:
        """What every save of the rig asks for."""
        shutdown = self.upper_type == "tmpfs"
        settings = {"config": CONFIG, "shutdown": shutdown, "wait_seconds": WAIT_SECONDS}
        return CommitRequest(**{**settings, **options})  # type: ignore[arg-type]

    def save(self, **options: object) -> CommitReport:
        """A save with nothing in its way."""
        return commit(self.machine.places, self.request(**options))

    def change(self) -> None:
        """Work of a user, with an ACL now and then."""
        change_tree(self.machine.root, self.chance)
        path = self.machine.root / f"etc/acl{self.chance.randrange(1000)}"
        path.write_bytes(self.chance.randbytes(100))
        os.setxattr(path, ACL_NAMES[0], ACL)

    def reboot(self) -> None:
        """Start what a boot would start now."""
        self.machine.shut_down()
        self.machine.boot()

    def attempt(
        self,
        prepare: Prepare,
        kill_after: float | None = None,
        action: Callable[[], object] | None = None,
        **options: object,
    ) -> Attempt:
        """Save (or act) in a child; `prepare` runs in it first. It can be killed after a while."""
        reading, writing = os.pipe()
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            act = action or functools.partial(self.save, **options)
            os._exit(self._act_as_child(writing, prepare, act))
        os.close(writing)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reading, "rb") as pipe:
            status = os.waitpid(child, 0)[1]
            seconds = time.monotonic() - started
            message = pipe.read().decode("utf-8", "replace")
        code = os.waitstatus_to_exitcode(status)
        return Attempt(code, code == -signal.SIGKILL, message, seconds)

    def _act_as_child(self, writing: int, prepare: Prepare, act: Callable[[], object]) -> int:
        try:
            prepare()
            act()
        except RamosError as error:
            os.write(writing, str(error).encode())
            return error.exit_code
        except BaseException as error:
            os.write(writing, f"not foreseen: {error!r}".encode())
            return 99
        return 0

    def examine(self, before: int, allow_new: bool) -> str:
        """What is wrong after a failed save and the one that follows; nothing, if all is well."""
        found, problem = check_store(self.persist)
        if found is None:
            return problem
        if found.default != before and not (allow_new and found.default == before + 1):
            return f"the default is {found.default}, it was {before}"
        self.change()
        made = self.save().generation
        if made <= found.default:
            return f"the next save made generation {made} after {found.default}"
        if read_truth(self.persist).default != made:
            return f"the default is not {made}, which was just saved"
        return self.find_litter() or self.find_lost_change()

    def find_litter(self) -> str:
        """What lies about that no finished save leaves."""
        named = {path.name for number in self.numbers() for path in self._list_named(number)}
        layers = {path.name for path in (self.persist / layout.LAYERS_DIR).iterdir()}
        strange = [f"layer {name}" for name in sorted(layers - named)]
        strange += [str(p) for p in self.persist.rglob(f"*{TEMPORARY_SUFFIX}")]
        places = self.machine.places
        if places.snapshots_dir.is_dir():
            strange += [str(path) for path in places.snapshots_dir.iterdir()]
        if places.stage_dir.exists():
            strange.append(str(places.stage_dir))
        strange += [str(path) for path in places.run.glob("saved.*")]
        return f"left behind: {', '.join(strange)}" if strange else ""

    def _list_named(self, number: int) -> list[Path]:
        return [self.persist / file.path for file in read_newest(self.persist, number).saved]

    def numbers(self) -> list[int]:
        """The generations that are stored."""
        folder = self.persist / layout.GENERATIONS_DIR
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())

    def find_lost_change(self) -> str:
        """Boot what was saved on a second machine, and compare it with the running system."""
        other = Machine(self.home / "other", "tmpfs")
        other.home.mkdir(exist_ok=True)
        other.boot_from(self.persist)
        try:
            return compare_trees(self.machine.root, other.root)
        finally:
            other.shut_down()


def compare_trees(expected: Path, found: Path) -> str:
    """The first differences between two trees, in words; only a boot puts ACLs back."""
    wrong = explain(capture(expected, without=ACL_NAMES), capture(found, without=ACL_NAMES))
    return f"saved otherwise than it is: {', '.join(wrong[:5])}" if wrong else ""


def set_crash_point(name: str) -> Prepare:
    """Die at a named step."""

    def prepare() -> None:
        os.environ[CRASH_VARIABLE] = name

    return prepare


def nothing() -> None:
    """No fault."""


@contextlib.contextmanager
def rigged(home: Path, seed: int, upper_type: str = "btrfs") -> Iterator[Rig]:
    """A rig with three generations; the newest has a sidecar, and runs."""
    persist = home / "persist"
    persist.mkdir(parents=True)
    make_image(home / "image", IMAGE_BYTES)
    with mounts.mounted(home / "image", persist, "ext4", PERSIST_OPTIONS, mounts.MS_NOATIME):
        build_system(persist)
        rig = Rig(home, random.Random(seed), upper_type)
        try:
            rig.machine.boot()
            for _ in range(2):
                rig.change()
                rig.save()
            rig.reboot()
            yield rig
        finally:
            rig.machine.shut_down()
