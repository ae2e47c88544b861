"""Checking the base images in the background of a boot, and sealing them with fs-verity.

Owns: which images lack their seal, reading them, and putting it on. An image that is built without
root can only be sealed by the system that has it mounted. Refuses: sealing what differs from what
the generation says, since a seal on a damaged image would only make the damage official.
Invariants: an image is sealed only after it was read as a whole; where no seal can be had, every
boot reads it; what was found stands in the RAM, for `ramos boot` to tell.
"""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ramos.errors import DamagedError
from ramos.linux.fs import write_durably
from ramos.linux.verity import enable_verity, measure_verity
from ramos.progress import OnProgress, Progress
from ramos.store.generation import StoredFile
from ramos.store.generations import find_damage, read_default
from ramos.store.scrub import be_idle

RESULT_FILE = "base.json"


@dataclass(frozen=True)
class BaseState:
    """How far the base images can be trusted: by their seal, or by being read in this boot."""

    sealed: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def is_sealed(persist: Path, file: StoredFile) -> bool:
    """Whether the kernel checks every block of a file that is read."""
    path = persist / file.path
    return path.is_file() and bool(measure_verity(path))


def list_unsealed(persist: Path) -> tuple[StoredFile, ...]:
    """The base images of the default that have no seal."""
    default = read_default(persist)
    return tuple(
        file
        for file in (default.base if default else ())
        if (persist / file.path).is_file() and not is_sealed(persist, file)
    )


def check_base(persist: Path, run: Path, on_progress: OnProgress) -> int:
    """Read the images that are not sealed, and seal the whole ones; how many were sealed."""
    be_idle()
    unsealed = list_unsealed(persist)
    whole, damaged, sealed = [], [], 0
    for number, file in enumerate(unsealed):
        on_progress(Progress("reading", number, len(unsealed), file.path))
        reason = _find_reason(persist, file)
        if not reason and file.verity and enable_verity(persist / file.path):
            sealed += 1
            if measure_verity(persist / file.path) != file.verity:
                reason = "its seal is another digest"
        if reason:
            damaged.append(f"{file.path}: {reason}")
        else:
            whole.append(file.path)
    found = BaseState(read=tuple(whole), damaged=tuple(damaged))
    write_durably(run / RESULT_FILE, json.dumps(asdict(found)).encode())
    if damaged:
        state = "It was not sealed, and is used as there is no other"
        hint = "Write the stick anew, or bring the file back from a backup."
        raise DamagedError(
            "a base image is damaged", damaged[0], f"{len(damaged)} in all", state, hint
        )
    return sealed


def _find_reason(persist: Path, file: StoredFile) -> str:
    """Why an image is not what was saved; what differs once is read again."""
    if find_damage(persist, file) is None:
        return ""
    damage = find_damage(persist, file)
    return damage.reason if damage else ""


def read_base_state(persist: Path, run: Path) -> BaseState:
    """How far the base images of the default can be trusted now."""
    default = read_default(persist)
    base = default.base if default else ()
    read: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    with contextlib.suppress(OSError, ValueError, KeyError):
        noted = json.loads((run / RESULT_FILE).read_text(encoding="utf-8"))
        read, damaged = tuple(noted["read"]), tuple(noted["damaged"])
    sealed = tuple(file.path for file in base if is_sealed(persist, file))
    bad = {text.partition(": ")[0] for text in damaged}
    rest = [file.path for file in base if file.path not in {*sealed, *bad}]
    return BaseState(
        sealed,
        tuple(path for path in rest if path in read),
        damaged,
        tuple(path for path in rest if path not in read),
    )


def describe_base(state: BaseState) -> list[str]:
    """The same in words, a line for each kind."""
    lines = [f"base image DAMAGED: {text}" for text in state.damaged]
    for paths, words in (
        (state.sealed, "sealed, each block is checked as it is read"),
        (state.read, "read in this boot, and whole"),
        (state.unknown, "not checked yet in this boot"),
    ):
        if paths:
            lines.append(f"base images {words}: {', '.join(paths)}")
    return lines
