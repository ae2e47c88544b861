"""Where the package engine works: the running system and its stick, or a test's stand-in for them.

Owns: these places, and the stick's key. Refuses: looking into the rest. Invariant: everything below
`work` may be deleted at any time when no engine runs.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.formats.apk_sign import make_key

# Enough for a key that vouches for the stick's own packages; 4096 take a slow machine a minute.
KEY_BITS = 3072
# For the lock of a save, or of the package manager.
LOCK_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Candidate:
    """One package that a mirror has. `proof` is what the signed index says of it."""

    name: str
    version: str
    proof: str
    size_bytes: int
    installed_bytes: int = 0
    depends: tuple[str, ...] = ()


@dataclass(frozen=True)
class Installed:
    """One installed package; `special` when it came through the engine."""

    name: str
    version: str
    special: bool


@dataclass(frozen=True)
class Removal:
    """What the package manager would do: what goes, and what needs some of the named packages."""

    going: tuple[str, ...]
    needed_by: tuple[str, ...]


@dataclass(frozen=True)
class Site:
    """The places of one machine."""

    base: str
    persist: Path
    work: Path
    # The running kernel's directory on the ESP.
    running: str
    open_esp: Callable[[bool], AbstractContextManager[Path]]
    root: Path = Path("/")
    recipes_dir: Path = layout.RECIPES_DIR
    lock_file: Path = layout.LOCK_FILE
    # The real one: on Alpine the `apk` of the path is a wrapper that calls us.
    apk: Path = Path("/sbin/apk")

    @property
    def packages(self) -> Path:
        """The stick's own repositories, its key and what the engine remembers."""
        return self.persist / layout.PACKAGES_DIR


def find_key(site: Site) -> Path:
    """The stick's own signing key; made when it is needed for the first time."""
    key = site.packages / "key" / "ramos-stick.rsa"
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_key(key, KEY_BITS)
    return key
