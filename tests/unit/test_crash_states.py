"""The model of the crash lab: which disks a power cut could leave."""

import random
from collections import Counter
from pathlib import Path

from tests.crash.log import Record, WriteLog
from tests.crash.proof import Tally
from tests.crash.states import SECTOR_BYTES, Piece, State, identity, states, tear, volatile

FLUSH = Record("flush")


def write(offset: int, sectors: int = 8) -> Record:
    return Record("write", offset * 4096, bytes(sectors * SECTOR_BYTES))


LOG = WriteLog(Path("base"), (write(1), write(2), FLUSH, write(3), write(3), write(4), FLUSH))


def test_a_flush_makes_what_came_before_it_durable() -> None:
    assert volatile(LOG, 2) == (0, [0, 1])
    assert volatile(LOG, 3) == (3, [])
    assert volatile(LOG, 5) == (3, [3, 4])


def test_durable_writes_are_never_lost_and_later_ones_never_there() -> None:
    for state in states(LOG, 1, 500):
        assert state.durable == volatile(LOG, state.cut)[0]
        assert all(state.durable <= piece.record < state.cut for piece in state.pieces)
        assert all(LOG.records[piece.record].kind == "write" for piece in state.pieces)


def test_the_same_seed_gives_the_same_states_and_no_state_twice() -> None:
    first = list(states(LOG, 7, 300))
    assert first == list(states(LOG, 7, 300))
    assert first != list(states(LOG, 8, 300))
    assert len({identity(LOG, state) for state in first}) == len(first)


def test_every_prefix_and_every_loss_of_one_write_is_tried() -> None:
    found = {identity(LOG, state) for state in states(LOG, 1, 500)}
    for cut in range(len(LOG.records)):
        durable, writes = volatile(LOG, cut)
        for kept in (writes, *([at for at in writes if at != lost] for lost in writes)):
            state = State(cut, durable, tuple(map(Piece, kept)), "")
            assert identity(LOG, state) in found


def test_the_order_counts_only_where_writes_overlap() -> None:
    one = State(6, 3, (Piece(3), Piece(4)), "")
    other = State(6, 3, (Piece(4), Piece(3)), "")
    assert identity(LOG, one) != identity(LOG, other)
    apart, turned = State(6, 3, (Piece(3), Piece(5)), ""), State(6, 3, (Piece(5), Piece(3)), "")
    assert identity(LOG, apart) == identity(LOG, turned)


def test_a_write_tears_between_sectors() -> None:
    chance = random.Random(1)
    for _ in range(200):
        for start, end in tear(4096, chance):
            assert start % SECTOR_BYTES == 0 == end % SECTOR_BYTES
            assert 0 <= start < end <= 4096
    assert tear(SECTOR_BYTES, chance) == ()


def test_without_flushes_everything_can_be_lost() -> None:
    assert volatile(LOG.without_flushes(), 5) == (0, [0, 1, 2, 3, 4])


def test_a_run_in_which_nothing_was_interrupted_is_no_proof() -> None:
    calm = Tally(outcomes=Counter(old=10, new=10))
    assert "nothing was interrupted" in calm.failure
    both = Tally(outcomes=Counter(old=10, new=10), interrupted=Counter(old=1, new=1))
    assert both.failure == ""
    mixed = Tally(outcomes=Counter(old=9, new=10, neither=1), interrupted=both.interrupted)
    assert "neither" in mixed.failure
