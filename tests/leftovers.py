"""What a run of the tests leaves on the machine: nothing.

Owns: one directory that a run has for all that it makes, and the look around at its end: mounts,
loop devices and processes of the run, files beside the directory. Refuses: to end or unmount
anything; whoever left it has to. Invariant: what other programs of the machine do is no matter of
ours, so only what names the directory, or us, counts; nothing is deleted across a mount.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SCRATCH_PREFIX = "ramos-test-"
SCRATCH_VARIABLE = "RAMOS_TEST_SCRATCH"
# Where programs leave files that nobody told where to.
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run")
OUR_WORDS = ("ramos", "lab", "pytest")
# A loop device or a process that was let go of still takes the kernel a moment.
PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class Scratch:
    """The directory of a run, and what lay beside it when the run began."""

    path: Path
    before: frozenset[str]

    @property
    def pytest(self) -> Path:
        """Where pytest makes the directories of tests."""
        return self.path / "p"

    @property
    def temporary(self) -> Path:
        """Where every other program makes what it needs for a while."""
        return self.path / "t"


def make_scratch() -> Scratch:
    """A directory for this run; every process that is started from now on uses it."""
    before = frozenset(_list_strangers())
    scratch = Scratch(Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX)), before)
    scratch.path.chmod(0o755)  # some tests look with the eyes of another user
    scratch.temporary.mkdir()
    scratch.temporary.chmod(0o1777)
    os.environ[SCRATCH_VARIABLE] = str(scratch.path)
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch.temporary)
    return scratch


def find_leftovers(scratch: Scratch) -> list[str]:
    """All that the run left, in words, once it has had a moment to go away."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := [*_look(scratch)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _look(scratch: Scratch) -> Iterator[str]:
    yield from (f"file {path}" for path in sorted(scratch.temporary.iterdir()))
    yield from (f"file {name}" for name in sorted(set(_list_strangers()) - scratch.before))
    yield from (f"mount {name}" for name in list_mounts(scratch.path))
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        file = _read(backing).decode("utf-8", "replace").strip()
        if file.startswith(f"{scratch.path}/"):
            yield f"loop device {backing.parts[3]} of {file}"
    ours = f"{SCRATCH_VARIABLE}={scratch.path}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        environment = _read(folder / "environ").split(b"\0")
        if ours in environment and int(folder.name) != os.getpid():
            words = _read(folder / "cmdline").replace(b"\0", b" ").decode("utf-8", "replace")
            yield f"process {folder.name}: {words[:100]}"


def _list_strangers() -> Iterator[str]:
    """Names in the places for all that are like ours; other runs have a directory as we do."""
    for place in PLACES:
        for name in os.listdir(place) if Path(place).is_dir() else ():
            if not name.startswith(SCRATCH_PREFIX) and name.startswith(OUR_WORDS):
                yield f"{place}/{name}"


def list_mounts(folder: Path) -> list[str]:
    """The mount points at and below a directory."""
    lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    points = [line.split()[4] for line in lines]
    return [point for point in points if f"{point}/".startswith(f"{folder}/")]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def remove_scratch(scratch: Scratch) -> None:
    """The directory of the run goes, unless something is mounted in it."""
    if not list_mounts(scratch.path):
        shutil.rmtree(scratch.path)
