"""Which disks a power cut could leave behind.

Owns: the model of a stick with a write cache. A flush makes every write before it durable; of the
writes since the last flush any subset may have reached the flash, in any order, and any of them
only in part (whole sectors of it). Refuses: sampling twice the same state. Invariants: the same
seed gives the same states; the systematic ones (every prefix, every flush boundary with nothing,
with all but one and with only one of the writes since) come before the random ones.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.crash.log import WriteLog

SECTOR_BYTES = 512
TORN_SHARE = 0.4
REORDERED_SHARE = 0.5
MAX_DULL_TRIES = 200
# With fewer states than the systematic ones alone would take, some still go to the random ones.
SYSTEMATIC_SHARE = 0.7


@dataclass(frozen=True)
class Piece:
    """One write, or those parts of it (byte ranges) that reached the flash."""

    record: int
    parts: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class State:
    """The power went after `cut` records: writes below `durable` are there, then the pieces."""

    cut: int
    durable: int
    pieces: tuple[Piece, ...]
    how: str


def states(log: WriteLog, seed: int, count: int) -> Iterator[State]:
    """Up to `count` different states, spread over the whole log."""
    chance = random.Random(seed)
    seen: dict[object, State] = {}
    for state in list_systematic(log):
        seen.setdefault(identity(log, state), state)
    systematic = round(count * SYSTEMATIC_SHARE)
    if len(seen) > systematic:
        seen = _choose(seen, systematic, chance)
    yield from list(seen.values())
    dull = 0
    while len(seen) < count and dull < MAX_DULL_TRIES:
        state = draw_state(log, chance)
        name = identity(log, state)
        dull = dull + 1 if name in seen else 0
        if name not in seen:
            seen[name] = state
            yield state


def _choose(seen: dict[object, State], count: int, chance: random.Random) -> dict[object, State]:
    """So many of the systematic states: the prefixes first, since they are every flush boundary."""
    names = list(seen)
    chance.shuffle(names)
    names.sort(key=lambda name: seen[name].how != "prefix")
    chosen = set(names[:count])
    return {name: state for name, state in seen.items() if name in chosen}


def volatile(log: WriteLog, cut: int) -> tuple[int, list[int]]:
    """What is durable at a cut (all records below this one), and the writes that are not yet."""
    durable = 0
    for at in range(cut):
        if log.records[at].kind == "flush":
            durable = at + 1
    return durable, [at for at in range(durable, cut) if log.records[at].kind == "write"]


def list_systematic(log: WriteLog) -> Iterator[State]:
    """Every prefix of the log, and around each flush the loss and the survival of each write."""
    for cut in range(len(log.records) + 1):
        durable, writes = volatile(log, cut)
        yield State(cut, durable, tuple(map(Piece, writes)), "prefix")
        last = cut == len(log.records) or log.records[cut].kind in ("flush", "mark")
        if not last:
            continue
        yield State(cut, durable, (), "nothing since the flush")
        for lost in writes:
            rest = tuple(Piece(at) for at in writes if at != lost)
            yield State(cut, durable, rest, "one lost")
            yield State(cut, durable, (Piece(lost),), "only one")


def draw_state(log: WriteLog, chance: random.Random) -> State:
    """A random cut; of what was in the cache a random part, in a random order, some of it torn."""
    cut = chance.randint(1, len(log.records))
    durable, writes = volatile(log, cut)
    share = chance.choice((0.2, 0.5, 0.8, 1.0))
    kept = [at for at in writes if chance.random() < share]
    how = "subset"
    if chance.random() < REORDERED_SHARE:
        chance.shuffle(kept)
        how = "reordered"
    pieces = [Piece(at) for at in kept]
    if pieces and chance.random() < TORN_SHARE:
        torn = chance.randrange(len(pieces))
        length = len(log.records[pieces[torn].record].data)
        pieces[torn] = Piece(pieces[torn].record, tear(length, chance))
        how += ", torn"
    return State(cut, durable, tuple(pieces), how)


def tear(length: int, chance: random.Random) -> tuple[tuple[int, int], ...]:
    """Some of the sectors of a write: its start, its end, or any of them."""
    sectors = length // SECTOR_BYTES
    if sectors < 2:
        return ()
    middle = chance.randrange(1, sectors) * SECTOR_BYTES
    kind = chance.randrange(3)
    if kind < 2:
        return ((0, middle),) if kind == 0 else ((middle, length),)
    chosen = [n for n in range(sectors) if chance.random() < 0.5]
    return tuple((n * SECTOR_BYTES, (n + 1) * SECTOR_BYTES) for n in chosen)


def identity(log: WriteLog, state: State) -> tuple[object, ...]:
    """Equal for states that leave the same disk; the order counts only where writes overlap."""
    since = sum(1 for at in range(state.durable, state.cut) if log.records[at].kind == "mark")
    pieces = state.pieces
    if not _overlapping(log, pieces):
        pieces = tuple(sorted(pieces, key=lambda piece: piece.record))
    return (state.durable, since, pieces)


def _overlapping(log: WriteLog, pieces: tuple[Piece, ...]) -> bool:
    spans = sorted(
        (
            log.records[p.record].offset,
            log.records[p.record].offset + len(log.records[p.record].data),
        )
        for p in pieces
    )
    return any(before[1] > after[0] for before, after in itertools.pairwise(spans))
