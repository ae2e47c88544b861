"""Going back, keeping and letting go: the changes of history that save nothing new.

Owns: rollback, pinning, pruning on demand, verification. Refuses: touching the running system; it
stays as it is until the next boot. Invariant: a rollback is a new generation on old layers, every
one of which was read and found good before.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from ramos.booted import read_boot
from ramos.config import SaveConfig
from ramos.errors import DamagedError, RefusedError, UsageError
from ramos.layout import Places
from ramos.linux.fs import crash_point, hold_lock
from ramos.progress import OnProgress, Progress
from ramos.save.after import settle
from ramos.save.session import read_session
from ramos.stick.check import check_stick
from ramos.store.generation import Generation, StoredFile
from ramos.store.generations import (
    Damage,
    PruneReport,
    clear_pin,
    find_absent,
    find_damage,
    list_generations,
    next_number,
    prune,
    publish_generation,
    read_all,
    read_default,
    read_generation,
    set_pin,
    sweep,
)


@dataclass(frozen=True)
class VerifyReport:
    """What was read, and what of it is damaged."""

    files: int
    size_bytes: int
    damaged: tuple[Damage, ...]


def resolve(places: Places, word: str | None) -> Generation:
    """A generation by number, or `default`, `backup` and `running`; without a word, default."""
    if word is None or word == "default":
        default = read_default(places.persist)
        if default is None:
            hint = "'ramos commit' makes the first."
            raise UsageError("cannot find", "default", "there is no generation yet", hint=hint)
        return default
    if word == "backup":
        return find_target(places, None)
    if word == "running":
        session = read_session(places)
        number = session.tip if session else read_boot(places).generation
        return read_generation(places.persist, number)
    if not word.isascii() or not word.isdigit() or len(word) > 9:
        hint = "A number of 'ramos log', or default, backup, running."
        raise UsageError("no such generation", word, "it is not a number", hint=hint)
    return read_generation(places.persist, int(word))


def find_target(places: Places, number: int | None) -> Generation:
    """The generation to go back to: the one that is named, or the backup."""
    if number is not None:
        return read_generation(places.persist, number)
    default = read_default(places.persist)
    if default is None or default.parent == 0:
        hint = "'ramos log' lists what there is."
        raise UsageError("cannot go back", "default", "it has no parent", hint=hint)
    return read_generation(places.persist, default.parent)


def rollback(places: Places, number: int | None, on_progress: OnProgress) -> Generation:
    """Make a new default with an old generation's layers; the running system stays as it is."""
    with hold_lock(places.lock_file, "rollback"):
        check_stick(places, read_boot(places))
        sweep(places.persist)
        target = find_target(places, number)
        refuse_damaged(places, target, on_progress)
        default = read_default(places.persist)
        base = default.base if default else target.base
        made = Generation(
            number=next_number(places.persist),
            parent=default.number if default else target.number,
            created=int(time.time()),
            kernel=target.kernel,
            reason="rollback",
            message=f"back to generation {target.number}",
            files=(*base, *target.saved),
        )
        crash_point("rollback-checked")
        publish_generation(places.persist, made)
        places.rollback_file.write_text(f"{made.number} {target.number}\n")
    settle(places, made.reason, generation=made.number)
    return made


def refuse_damaged(places: Places, target: Generation, on_progress: OnProgress) -> None:
    """A damaged generation must not become the default."""
    report = verify_files(places, target.saved, on_progress)
    if report.damaged:
        first = report.damaged[0]
        raise DamagedError(
            "cannot use generation",
            target.number,
            f"{first.path}: {first.reason}",
            "The default is what it was",
            "'ramos verify --all' names every damaged file.",
        )


def verify(places: Places, *, everything: bool, on_progress: OnProgress) -> VerifyReport:
    """Read what default is made of (or all there is) from the stick and compare it."""
    good, bad = read_all(places.persist)
    if everything:
        chosen = good
    else:
        chosen = [g for g in good if not find_absent(places.persist, g)][-1:]
        newest = good[-1].number if good else 0
        if chosen and chosen[0].number != newest:
            bad += find_absent(places.persist, good[-1])
    files = {file.path: file for generation in chosen for file in generation.files}
    report = verify_files(places, files.values(), on_progress)
    return VerifyReport(report.files, report.size_bytes, (*bad, *report.damaged))


def verify_files(
    places: Places, files: Iterable[StoredFile], on_progress: OnProgress
) -> VerifyReport:
    """Hash stored files as the device gives them back."""
    wanted = list(files)
    total, done, damaged = sum(file.size_bytes for file in wanted), 0, []
    for file in wanted:
        on_progress(Progress("reading", done, total))
        damage = find_damage(places.persist, file)
        if damage is not None:  # a read that fails once is tried again before it is called damage
            damage = find_damage(places.persist, file)
        if damage is not None:
            damaged.append(damage)
        done += file.size_bytes
    on_progress(Progress("reading", total, total))
    return VerifyReport(len(wanted), total, tuple(damaged))


def pin(places: Places, number: int) -> None:
    """Keep a generation for good."""
    with hold_lock(places.lock_file, "pin"):
        check_stick(places, read_boot(places))
        set_pin(places.persist, number)


def unpin(places: Places, number: int) -> None:
    """Let pruning have a generation again."""
    with hold_lock(places.lock_file, "unpin"):
        check_stick(places, read_boot(places))
        clear_pin(places.persist, number)


def list_protected(places: Places) -> set[int]:
    """What pruning must leave: what we run on (a boot has read it), and what it saved last."""
    boot, session = read_boot(places), read_session(places)
    return {boot.generation, session.tip if session else 0} - {0}


def prune_now(places: Places, config: SaveConfig) -> PruneReport:
    """Delete old generations and what nothing names; needs no free space."""
    with hold_lock(places.lock_file, "prune"):
        check_stick(places, read_boot(places))
        sweep(places.persist)
        protected = list_protected(places)
        if not protected and list_generations(places.persist):
            raise RefusedError(
                "cannot prune",
                places.persist,
                "this system runs on none of the generations, so none is proven to boot",
                hint="Boot the default first, and prune then.",
            )
        # What tells this stick from a copy stays, too: in a clean boot it is none that we run on.
        return prune(places.persist, config, protected | {read_boot(places).proof_number})
