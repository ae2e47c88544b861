"""A stick on this machine: a served disk, the loop device over it, and its mount.

Owns: starting and ending the server. Refuses: writing to the image it is given (see `server`).
Invariant: when the block ends, the server has ended and nothing is mounted.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.crash import mounts
from tests.crash.log import WriteLog, read_log

REPOSITORY = Path(__file__).resolve().parents[2]
# What the boot mounts persist with (DESIGN.md), so that the log holds what a stick would see.
PERSIST_OPTIONS = "commit=30,errors=remount-ro"


@dataclass(frozen=True)
class Stick:
    """A stick that is plugged in."""

    base: Path
    disk: Path
    log_file: Path

    def mark(self, text: str) -> None:
        """Leave a note in the log; it is in its place when this returns."""
        self.disk.with_name("mark").write_text(text)

    def control(self, line: str) -> None:
        """Play a fault (see `server`)."""
        self.disk.with_name("control").write_text(line)

    def read_log(self) -> WriteLog:
        """What reached the stick so far."""
        return read_log(self.base, self.log_file)


@contextlib.contextmanager
def plugged(base: Path, directory: Path) -> Iterator[Stick]:
    """Serve an image as a stick; `directory` takes the mount point and the log."""
    mountpoint = directory / "fuse"
    mountpoint.mkdir(parents=True)
    log_file = directory / "log"
    program = [sys.executable, "-m", "tests.crash.server"]
    command: list[str | Path] = [*program, base, mountpoint, log_file]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            if server.stdout.readline() != b"serving\n":
                raise RuntimeError(f"the stick's server did not start: exit {server.wait()}")
            yield Stick(base, mountpoint / "disk", log_file)
        finally:
            with contextlib.suppress(OSError):
                mounts.unmount(mountpoint, mounts.MNT_DETACH)
            server.kill()


@contextlib.contextmanager
def persist_mounted(stick: Stick, target: Path) -> Iterator[Path]:
    """The stick's ext4, mounted as the boot mounts persist."""
    target.mkdir(exist_ok=True)
    with mounts.mounted(stick.disk, target, "ext4", PERSIST_OPTIONS, mounts.MS_NOATIME):
        yield target
