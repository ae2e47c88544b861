"""Faults from inside a process: the preloaded shim of `shim.c`, compiled when first needed.

Owns: compiling it and the environment that steers it. Refuses: touching the process that asks; a
shim works in the processes started with its environment.
"""

import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
STATE_BYTES = 4096
PAGE = struct.Struct("=6q")


@dataclass(frozen=True)
class Shim:
    """A compiled shim that watches the files below `root`."""

    library: Path
    root: Path

    @property
    def state(self) -> Path:
        """The page that steers it, shared by all processes."""
        return self.library.with_suffix(".state")

    @property
    def trace(self) -> Path:
        """One line for each call that counted: its number, the process, the call, the file."""
        return self.library.with_suffix(".trace")

    def environment(self, mode: str) -> dict[str, str]:
        """What a process needs in its environment from its start."""
        self.state.write_bytes(bytes(STATE_BYTES))
        return {
            "LD_PRELOAD": str(self.library),
            "RAMOS_SHIM": mode,
            "RAMOS_SHIM_ROOT": str(self.root),
            "RAMOS_SHIM_STATE": str(self.state),
            "RAMOS_SHIM_TRACE": str(self.trace),
        }

    def arm(self, at: int = 0, code: int = 0, *, last: bool = False, stick: bool = False) -> None:
        """From now on the `at`th call fails with `code` (0 kills), with `last` all after it too.

        With `stick` only calls on the stick count, and not those in RAM.
        """
        self.trace.unlink(missing_ok=True)
        with self.state.open("r+b") as file:
            file.write(PAGE.pack(0, at, code, last, True, stick))

    def disarm(self) -> None:
        """From now on nothing fails."""
        with self.state.open("r+b") as file:
            file.write(bytes(PAGE.size))

    def read_trace(self) -> list[str]:
        """The calls that counted since the shim was armed to trace them."""
        if not self.trace.exists():
            return []
        return self.trace.read_text(errors="replace").splitlines()


def build_shim(directory: Path, root: Path) -> Shim:
    """Compile the shim into a directory."""
    library = directory / "shim.so"
    words = ["gcc", "-O1", "-Wall", "-shared", "-fPIC"]
    command: list[str | Path] = [*words, "-o", library, SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return Shim(library, root)


def find_shim() -> Shim | None:
    """The shim that this very process runs with."""
    if "RAMOS_SHIM" not in os.environ:
        return None
    return Shim(Path(os.environ["LD_PRELOAD"]), Path(os.environ["RAMOS_SHIM_ROOT"]))


def run_preloaded(command: list[str], mode: str, directory: Path, root: Path) -> int:
    """Run a command under the shim; its exit status."""
    shim = build_shim(directory, root)
    environment = {**os.environ, **shim.environment(mode)}
    return subprocess.run(command, env=environment, check=False).returncode
