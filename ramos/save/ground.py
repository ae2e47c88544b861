"""What a new generation stands on: the base images on persist, and the layers below the new one.

Owns: choosing them, and writing the file of the booted generation again where it was lost. Refuses:
writing anything else. Invariant: the chain chosen plus the whole upper (or plus what changed in it
since the chain's last layer was made) is what the running system shows.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.booted import Boot, Mode
from ramos.errors import RamosError
from ramos.layout import Places
from ramos.save.session import Session, read_session
from ramos.store.generation import COMPACTED, Generation, StoredFile, parse
from ramos.store.generations import find_absent, publish_generation, read_default, read_generation


@dataclass(frozen=True)
class Ground:
    """Where a commit starts from; with `is_delta` it adds to what this boot saved before."""

    parent: int
    below: tuple[StoredFile, ...]
    is_delta: bool
    session: Session | None

    def since(self, excludes: str) -> int:
        """The btrfs transaction whose state the session's index describes; 0: nobody knows."""
        if not self.is_delta or self.session is None or self.session.excludes != excludes:
            return 0
        return self.session.birth


def choose_ground(places: Places, boot: Boot, *, full: bool, max_layers: int) -> Ground:
    """Go on from this boot's last commit, or put everything of this boot into one layer."""
    session = _read_usable_session(places, boot)
    booted = _read_booted(places, boot)
    if session is not None and session.tip and not full:
        tip = read_generation(places.persist, session.tip)
        if len(tip.layers) < max_layers or (booted is None and boot.mode is not Mode.CLEAN):
            return Ground(tip.number, tip.saved, True, session)
    if booted is not None:
        parent = session.tip if session else booted.number
        return Ground(parent, booted.saved, False, session)
    default = read_default(places.persist)
    parent = session.tip if session else (default.number if default else 0)
    return Ground(parent, (), False, session)


def find_left_behind(places: Places, boot: Boot) -> Generation | None:
    """The default, where a save would take its place without standing on it.

    So it is in backup mode, after a boot that stepped back, a rollback and an import: what only
    that generation holds is in no default any more. One that was made shorter holds what runs.
    """
    session, default = read_session(places), read_default(places.persist)
    running = session.tip if session else boot.generation
    if default is None or default.number == running:
        return None
    return None if default.reason == COMPACTED and default.parent == running else default


def restore_booted(places: Places, boot: Boot) -> None:
    """Write the booted generation's file again if it was lost: its layers are under this system."""
    if boot.mode is Mode.CLEAN or not boot.generation:
        return
    with contextlib.suppress(RamosError):
        read_generation(places.persist, boot.generation)
        return
    try:
        name = Path(layout.generation_path(boot.generation)).name
        copy = parse(places.generation_file.read_bytes(), name)
    except (OSError, RamosError):
        return  # choosing the ground says what is missing
    if copy.number == boot.generation and not find_absent(places.persist, copy):
        publish_generation(places.persist, copy)


def _read_usable_session(places: Places, boot: Boot) -> Session | None:
    """This boot's session, if what it saved is still there."""
    session = read_session(places)
    if session is None or session.booted != boot.generation:
        return None
    try:
        tip = read_generation(places.persist, session.tip)
    except RamosError:
        return None
    return None if find_absent(places.persist, tip) else session


def _read_booted(places: Places, boot: Boot) -> Generation | None:
    """The generation whose layers are under the running system; none in clean mode."""
    if boot.mode is Mode.CLEAN or boot.generation == 0:
        return None
    return read_generation(places.persist, boot.generation)
