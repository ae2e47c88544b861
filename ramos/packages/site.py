"""Where the package engine works: the running system and its stick, or a test's stand-in for them.

Owns: these places, what is asked of a package manager, and the stick's key. Refuses: looking into
the rest. Invariants: everything below `work` may be deleted at any time when no engine runs; the
recipes are read once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from ramos import layout
from ramos.formats.apk_sign import make_key
from ramos.linux.run import OnLine
from ramos.packages.recipe import Recipe, find_recipe
from ramos.packages.recipes import load_recipes
from ramos.packages.unpack import Staged

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

    manager: "Manager"
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

    @cached_property
    def recipes(self) -> tuple[Recipe, ...]:
        """All recipes; an error when one of them is broken."""
        return load_recipes(self.recipes_dir).require_sound()

    def find_recipe(self, package: str) -> Recipe | None:
        """The recipe for a package; None for ordinary ones."""
        return find_recipe(self.recipes, package, self.manager.BASE)


class Manager(Protocol):
    """A package manager as the engine knows it: the modules `alpine` and `debian`."""

    BASE: str

    def refresh(self, site: Site, on_line: OnLine, /) -> None:
        """Fetch the indexes of the mirrors."""

    def list_installed(self, site: Site, /) -> Mapping[str, Installed]:
        """Every installed package."""
        ...

    def is_newer(self, version: str, than: str, /) -> bool:
        """Compare versions."""
        ...

    def find_candidates(self, site: Site, wanted: Iterable[str], /) -> Mapping[str, Candidate]:
        """What the mirrors have of these packages: NAME, or NAME=VERSION."""
        ...

    def fetch(self, site: Site, candidate: Candidate, folder: Path, on_line: OnLine, /) -> Path:
        """Download one package that a signed index names."""
        ...

    def stage(self, site: Site, path: Path, recipe: Recipe, /) -> Staged:
        """Take one package apart."""
        ...

    def find_repository(self, site: Site, /) -> Path:
        """Where the stick's own packages lie."""
        ...

    def list_packages(self, site: Site, /) -> list[Path]:
        """The packages of the stick's own repository."""
        ...

    def read_label(self, path: Path, /) -> tuple[str, str]:
        """The name and the version of a package."""
        ...

    def sign_repository(self, site: Site, paths: Iterable[Path], /) -> None:
        """Write the index of these packages."""

    def read_repository(self, site: Site, on_line: OnLine, /) -> None:
        """Have the package manager read that index, and the settings of the stick."""

    def install(
        self, site: Site, names: Sequence[str], on_line: OnLine, /, *, simulate: bool = False
    ) -> None:
        """Install from the stick's repository; what fails leaves the packages as they were."""

    def plan_removal(self, site: Site, names: Sequence[str], /) -> Removal:
        """What would go with these packages."""
        ...

    def remove(self, site: Site, names: Sequence[str], on_line: OnLine, /) -> None:
        """Remove packages."""

    def release_files(self, site: Site, name: str, recipe: Recipe, /) -> None:
        """Forget what has left an installed stock package."""

    def list_kernel_versions(self, site: Site, names: Iterable[str], /) -> list[str]:
        """The kernels that installed stock packages had brought."""
        ...


def find_key(site: Site) -> Path:
    """The stick's own signing key; made when it is needed for the first time."""
    key = site.packages / "key" / "ramos-stick.rsa"
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_key(key, KEY_BITS)
    return key
