"""A change of kernels or base images that is under way, so that a cut can be undone or finished.

    /persist/packages/transaction      there while a change is under way

Owns: this file and what is done with it afterwards. Refuses: guessing; only what the file names is
taken away. Invariants: the file is durable before the first thing that it names gets its name;
phase `ready` means that everything is in place and only the boot environment is missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ramos import layout
from ramos.boot import grubenv
from ramos.boot.esp import read_env, write_env
from ramos.boot.grubenv import BootEnv
from ramos.boot.kernels import delete_kernel, is_whole, list_complete
from ramos.errors import DamagedError, RamosError
from ramos.linux.fs import crash_point, sync_directory, write_durably
from ramos.store.generations import read_all
from ramos.store.images import find_modules

FILE_NAME = "transaction"
FIRST_LINE = "ramos-transaction=1"
PUBLISHING, READY = "publishing", "ready"


@dataclass(frozen=True)
class Journal:
    """What is being made: kernel directories, and what did not exist: images and other files.

    `trial` is the kernel among them that is tried at the next boots; `files` lie below packages/.
    """

    phase: str = PUBLISHING
    packages: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    trial: tuple[str, ...] = ()


LISTS = ("packages", "kernels", "images", "files", "trial")


@dataclass(frozen=True)
class Recovery:
    """What was done about an interrupted change."""

    finished: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()


def journal_path(persist: Path) -> Path:
    """Where the file lies."""
    return persist / layout.PACKAGES_DIR / FILE_NAME


def render(journal: Journal) -> str:
    """The text of the file."""
    lines = [FIRST_LINE, f"phase={journal.phase}"]
    for key in LISTS:
        lines += [f"{key}={value}" for value in getattr(journal, key)]
    return "".join(f"{line}\n" for line in [*lines, "end=1"])


def parse(text: str) -> Journal | None:
    """Read the file; one that was not written to its end says nothing."""
    lines = text.splitlines()
    if lines[:1] != [FIRST_LINE] or lines[-1:] != ["end=1"]:
        return None
    pairs = [line.partition("=") for line in lines[1:-1]]
    found = {key: tuple(v for k, _, v in pairs if k == key) for key in LISTS}
    phase = next((value for key, _, value in pairs if key == "phase"), PUBLISHING)
    return Journal(phase, **found)


def find_stranger(journal: Journal) -> str | None:
    """A name that no change of this stick has: what is undone is deleted, and only below its place.

    Kernels and images lie right in their folder, files anywhere below packages/.
    """
    for name in (*journal.kernels, *journal.images, *journal.trial, *journal.files):
        parts = name.split("/")
        if {"", ".", ".."} & set(parts) or (name not in journal.files and len(parts) > 1):
            return name
    return None


def read_journal(persist: Path) -> Journal | None:
    """The change that is under way, or was when the power went."""
    path = journal_path(persist)
    try:
        journal = parse(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    stranger = find_stranger(journal) if journal else None
    if stranger is not None:
        raise DamagedError(
            "cannot finish or undo a change of packages",
            path,
            f"it names {stranger!r}, which is no name of a kernel or an image",
            "Nothing was taken away",
            "RAMOS has not written it; look at it, and delete it.",
        )
    return journal


def begin(persist: Path, journal: Journal) -> None:
    """From now on what the journal names can be taken away again."""
    journal_path(persist).parent.mkdir(parents=True, exist_ok=True)
    write_durably(journal_path(persist), render(journal).encode("utf-8"))
    crash_point("transaction-begun")


def mark_ready(persist: Path, journal: Journal) -> Journal:
    """Everything is in place: from now on the change is finished, not undone."""
    ready = replace(journal, phase=READY)
    write_durably(journal_path(persist), render(ready).encode("utf-8"))
    crash_point("transaction-ready")
    return ready


def start_trials(esp: Path, names: Iterable[str]) -> None:
    """The kernel of a change is tried at the next boots."""
    env = read_environment(esp)
    for name in names:
        if name not in (env.good, env.trial):
            write_env(esp, grubenv.start_trial(env, name))
            crash_point("transaction-trial")


def end_trials(esp: Path, kernels: Iterable[str]) -> None:
    """These kernels are about to be taken away."""
    env = read_environment(esp)
    if env.trial in kernels:
        write_env(esp, grubenv.end_trial(env))


def end(persist: Path) -> None:
    """The change is done, one way or the other."""
    journal_path(persist).unlink(missing_ok=True)
    sync_directory(journal_path(persist).parent)
    crash_point("transaction-ended")


def finish_or_undo(persist: Path, esp: Path, journal: Journal) -> Recovery:
    """Finish or undo what was interrupted, up to `end`. Doing it twice is the same as once."""
    complete = list_complete(esp)
    whole = all(name in complete and is_whole(esp, name) for name in journal.kernels)
    if journal.phase == READY and whole:
        start_trials(esp, journal.trial)
        return Recovery(finished=journal.packages)
    undo(persist, esp, journal)
    return Recovery(undone=journal.packages)


def undo(persist: Path, esp: Path, journal: Journal) -> None:
    """Take away what the journal names, unless the stick boots from it by now."""
    env = read_environment(esp)
    end_trials(esp, journal.kernels)
    for name in journal.kernels:
        others = [other for other in list_complete(esp) if other != name]
        if name != env.good and (others or name not in list_complete(esp)):
            delete_kernel(esp, name)
    named = {file.path for generation in read_all(persist)[0] for file in generation.files}
    used = {find_modules(persist, name).name for name in list_complete(esp)}
    for path in journal.images:
        if path not in named | used:
            (persist / path).unlink(missing_ok=True)
    sync_directory(persist)
    crash_point("transaction-undone")


def read_environment(esp: Path) -> BootEnv:
    """What GRUB remembers; a block that nobody can read counts as empty."""
    try:
        return read_env(esp)
    except RamosError:
        return BootEnv()
