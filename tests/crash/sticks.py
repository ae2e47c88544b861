"""Faults of the stick itself: full, read-only, failing, pulled, lying.

Owns: those groups of faults. The stick is the served one, so a failed write or flush is a real
error of the block device with everything that the kernel makes of it (an aborted journal, a file
system that turns read-only); afterwards the stick is plugged in again as it was left.
"""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ramos import layout
from ramos.progress import quiet
from ramos.save.history import verify
from ramos.store.generation import Generation
from tests.crash import mounts
from tests.crash.check import bring_up, check_store, pick_by_boot
from tests.crash.device import PERSIST_OPTIONS, Stick, persist_mounted, plugged
from tests.crash.machine import read_newest
from tests.crash.replay import materialize
from tests.crash.rig import CONFIG, Case, Rig, describe, nothing, rigged
from tests.crash.states import State

FLIPS = 200
LIES = {"the layer": "*", "the generation file": "ramos-generation=1", "the sidecar": "access"}


def fill_up(scratch: Path, seed: int) -> Iterator[Case]:
    """A persist without room: too little to begin with, and none left half-way."""
    with rigged(scratch / "full", seed) as rig:
        for free_kib in (0, 64, 128, 256, 300, 400, 1024, 9000):
            rig.change()
            before = max(rig.numbers())
            filler = fill(rig.persist, free_kib)
            config = CONFIG if free_kib > 8192 else replace(CONFIG, reserve_mib=0)
            attempt = rig.attempt(nothing, config=config)
            allow_new = attempt.exit_code == 0
            found, problem = check_store(rig.persist)
            if found and found.default != before and not allow_new:
                problem = f"the default is {found.default}, it was {before}"
            filler.unlink()
            problem = problem or rig.examine(before, allow_new)
            yield Case(f"{free_kib} KiB free", describe(attempt), problem)


def fill(persist: Path, free_kib: int) -> Path:
    """A file that takes all but so much of the room."""
    filler = persist / "filler"
    status = os.statvfs(persist)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - free_kib * 1024)
    return filler


def mount_read_only(scratch: Path, seed: int) -> Iterator[Case]:
    """A persist that is mounted read-only."""
    with rigged(scratch / "ro", seed) as rig:
        rig.change()
        before = max(rig.numbers())
        subprocess.run(["mount", "-o", "remount,ro", rig.persist], check=True)
        attempt = rig.attempt(nothing)
        subprocess.run(["mount", "-o", "remount,rw", rig.persist], check=True)
        problem = rig.examine(before, allow_new=False)
        if "read-only" not in attempt.message:
            problem = problem or f"it does not say why: {attempt.message}"
        yield Case("read-only", describe(attempt), problem)


@contextlib.contextmanager
def served_rig(base: Path, home: Path, seed: int) -> Iterator[tuple[Stick, Rig]]:
    """A stick with some history, served, and a system started from it."""
    with plugged(base, home) as stick, persist_mounted(stick, home / "persist"):
        rig = Rig(home, random.Random(seed), "tmpfs")
        try:
            rig.machine.boot()
            rig.change()
            rig.save()
            rig.change()
            yield stick, rig
        finally:
            rig.machine.shut_down()


def make_base(home: Path, seed: int) -> Path:
    """The image of a stick with three generations."""
    with rigged(home, seed):
        pass
    return home / "image"


def break_stick(scratch: Path, seed: int) -> Iterator[Case]:
    """Each write and each flush of a save fails, once; or the stick is gone from there on."""
    base = make_base(scratch / "base", seed)
    with served_rig(base, scratch / "count", seed) as (stick, rig):
        begin = len(stick.read_log().records)
        rig.save()
        kinds = [record.kind for record in stick.read_log().records[begin:]]
    orders = [f"fail write {n} 1" for n in range(kinds.count("write"))]
    orders += [f"fail flush {n} 1" for n in range(kinds.count("flush"))]
    orders += [f"vanish {n}" for n in range(kinds.count("write") + 1)]
    for number, order in enumerate(orders):
        yield break_once(base, scratch / f"break{number}", seed, order)


def lie(scratch: Path, seed: int) -> Iterator[Case]:
    """The stick takes what it is given, and has other bytes when it is asked."""
    base = make_base(scratch / "base", seed)
    for number, (what, text) in enumerate(LIES.items()):
        case = break_once(base, scratch / f"lie{number}", seed, f"lie {text} 1")
        problem = case.problem
        if "other bytes" not in case.ended:
            problem = problem or f"it does not say that the stick lies: {case.ended}"
        yield Case(f"a lie about {what}", case.ended, problem)


def break_once(base: Path, home: Path, seed: int, order: str) -> Case:
    """Save on a stick that breaks; then plug it in again and look."""
    with served_rig(base, home, seed) as (stick, rig):
        before = max(rig.numbers())
        stick.control(order)
        attempt = rig.attempt(nothing)
        stick.control("heal")
    log = stick.read_log()
    materialize(log, State(len(log.records), len(log.records), (), ""), home / "image")
    allow_new = attempt.exit_code == 0 or "shows at the next boot" in attempt.message
    problem = look_again(home, seed, before, allow_new)
    if attempt.exit_code not in (0, 1):
        problem = problem or f"exit status {attempt.exit_code}: {attempt.message}"
    shutil.rmtree(home)
    return Case(order, describe(attempt), problem)


def look_again(home: Path, seed: int, before: int, allow_new: bool) -> str:
    """Bring the disk up as a boot does, start from it, and save."""
    persist = home / "persist"
    _, found, reason = bring_up(home / "image", persist)
    if found is None:
        return reason
    with mounts.mounted(home / "image", persist, "ext4", PERSIST_OPTIONS, mounts.MS_NOATIME):
        rig = Rig(home, random.Random(seed + 1), "tmpfs")
        try:
            rig.machine.boot()
            return rig.examine(before, allow_new)
        finally:
            rig.machine.shut_down()


def flip_bits(scratch: Path, seed: int) -> Iterator[Case]:
    """One bit of a stored file turns over: `verify` names it, and the boot steps over it."""
    chance = random.Random(seed)
    with rigged(scratch / "flip", seed) as rig:
        for _ in range(3):
            rig.change()
            rig.save()
        states = {number: read_newest(rig.persist, number) for number in rig.numbers()}
        files: dict[str, str] = {
            file.path: file.kind for state in states.values() for file in state.files
        }
        files.update({layout.generation_path(number): "generation" for number in states})
        kinds = sorted(set(files.values()))
        for number in range(FLIPS):
            kind = kinds[number % len(kinds)]
            path = chance.choice(sorted(path for path, found in files.items() if found == kind))
            with flipped(rig.persist / path, chance) as where:
                problem = look_at_damage(rig, states, path, kind)
            yield Case(f"{kind} {path}, {where}", "flipped", problem)


@contextlib.contextmanager
def flipped(path: Path, chance: random.Random) -> Iterator[str]:
    """One bit of a file is another one for the block, on the device as well."""
    at, bit = chance.randrange(path.stat().st_size), chance.randrange(8)
    descriptor = os.open(path, os.O_RDWR)
    try:
        good = os.pread(descriptor, 1, at)
        os.pwrite(descriptor, bytes([good[0] ^ 1 << bit]), at)
        os.fsync(descriptor)
        yield f"bit {bit} of byte {at}"
        os.pwrite(descriptor, good, at)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def look_at_damage(rig: Rig, states: dict[int, Generation], path: str, kind: str) -> str:
    """Whether the damage is named, and which generation boots all the same."""
    report = verify(rig.machine.places, everything=True, on_progress=quiet)
    named = [damage.path for damage in report.damaged]
    if named != [path]:
        return f"verify names {named}"
    whole = [
        number
        for number, state in states.items()
        if layout.generation_path(number) != path
        and (kind == "rootfs" or path not in {file.path for file in state.saved})
    ]
    expected = max(whole, default=0)
    mode, number, skipped = pick_by_boot(rig.persist, rig.home / "pick")
    if (mode, number) != ("default" if expected else "clean", expected):
        return f"the boot picks {mode} {number}, and not {expected}"
    if len(skipped) != sum(number > expected for number in states):
        return f"the boot stepped over {skipped}"
    return ""
