"""Sealing the base images with fs-verity, once, on the first boot of a stick.

Owns: which images lack their seal, and putting it on. An image that is built without root can only
be sealed by the system that has it mounted. Refuses: sealing what differs from what the generation
says, since a seal on a damaged image would only make the damage official. Invariant: a seal that
is there is the recorded one, or the image is named as damaged.
"""

from collections.abc import Callable
from pathlib import Path

from ramos.errors import RamosError
from ramos.generation import StoredFile
from ramos.scrub import be_idle
from ramos.store import find_damage, read_default
from ramos.verity import enable_verity, is_supported, measure_verity

OnProgress = Callable[[float, str], None]


def is_sealed(persist: Path, file: StoredFile) -> bool:
    """Whether the kernel checks every block of a file that is read."""
    path = persist / file.path
    return path.is_file() and bool(measure_verity(path))


def list_unsealed(persist: Path) -> tuple[StoredFile, ...]:
    """The base images of the default that have a recorded digest but no seal."""
    default = read_default(persist) if is_supported() else None
    if default is None:
        return ()
    return tuple(
        file
        for file in default.base
        if file.verity and (persist / file.path).is_file() and not is_sealed(persist, file)
    )


def seal_base(persist: Path, on_progress: OnProgress) -> int:
    """Seal the base images at idle priority; how many were sealed."""
    be_idle()
    unsealed = list_unsealed(persist)
    for number, file in enumerate(unsealed):
        on_progress(number / len(unsealed), file.path)
        path = persist / file.path
        if damage := find_damage(persist, file):
            raise RamosError("cannot seal", path, damage.reason, "It stays as it is")
        if not enable_verity(path):
            return number
        if measure_verity(path) != file.verity:
            raise RamosError("cannot trust the stick with", path, "its seal is another digest")
    return len(unsealed)
