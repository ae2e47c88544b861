"""Faults from inside a process: the preloaded shim of `shim.c`, compiled when first needed.

Owns: compiling it and the environment that steers it. Refuses: touching the process that asks; a
shim works in the processes started with its environment.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
STATE_BYTES = 4096


@dataclass(frozen=True)
class Shim:
    """A compiled shim that watches the files below `root`."""

    library: Path
    root: Path

    @property
    def state(self) -> Path:
        """The file of the shared counter."""
        return self.library.with_suffix(".state")

    @property
    def trace(self) -> Path:
        """One line for each call that counted: its number, the process, the call, the file."""
        return self.library.with_suffix(".trace")

    def environment(
        self, mode: str, at: int = 0, code: int = 0, last: bool = False
    ) -> dict[str, str]:
        """What a process needs in its environment to meet the fault; the count starts anew."""
        self.state.write_bytes(bytes(STATE_BYTES))
        self.trace.unlink(missing_ok=True)
        return {
            "LD_PRELOAD": str(self.library),
            "RAMOS_SHIM": mode,
            "RAMOS_SHIM_ROOT": str(self.root),
            "RAMOS_SHIM_STATE": str(self.state),
            "RAMOS_SHIM_TRACE": str(self.trace),
            "RAMOS_SHIM_AT": str(at),
            "RAMOS_SHIM_ERRNO": str(code),
            **({"RAMOS_SHIM_LAST": "1"} if last else {}),
        }

    def read_trace(self) -> list[str]:
        """The calls that counted so far."""
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


def run_without_flushes(command: list[str], directory: Path) -> int:
    """Run a command in which no fsync does anything."""
    shim = build_shim(directory, Path("/"))
    environment = {**os.environ, **shim.environment("nosync")}
    return subprocess.run(command, env=environment, check=False).returncode


def is_preloaded() -> bool:
    """Whether this very process runs with a shim."""
    return "RAMOS_SHIM" in os.environ
