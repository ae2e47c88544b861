"""Which generations stay when old ones are pruned.

Owns: that choice, from numbers, reasons, messages and times. Refuses: deleting. Invariants: order
is the number, never the clock, which can only make more or fewer of them stay; what repeats a state
that stays (a rollback, a compaction, a save without changes) takes no place of a real save.
"""

from collections.abc import Callable, Iterable, Sequence

from ramos.config import SaveConfig
from ramos.store.generation import COMPACTED, Generation

# Made by the system itself, by its settings.
UNASKED = frozenset(("timer", "battery", "lid"))
REPEATING = frozenset((COMPACTED, "rollback"))
DAY_SECONDS = 86400
WEEK_SECONDS = 7 * DAY_SECONDS


def plan_prune(
    generations: Sequence[Generation],
    pins: Iterable[int],
    config: SaveConfig,
    protected: Iterable[int],
    *,
    room: bool,
) -> list[Generation]:
    """Those to delete: all but default, its parent, pins, what is protected, and real saves.

    Of these the newest `keep` stay, and as many that somebody asked for; where there is room, the
    newest with a message, and the last of each day and week.
    """
    if not generations:
        return []
    default = generations[-1]
    kept = {default.number, default.parent, *pins, *protected}
    saves = [
        generation for generation in reversed(generations) if _is_real(generation, generations)
    ]
    asked = [save for save in saves if save.reason not in UNASKED]
    kept.update(save.number for save in (*saves[: config.keep], *asked[: config.keep]))
    if room:
        named = [save.number for save in saves if save.message]
        kept.update(named[: config.keep_named])
        kept.update(_pick_last(saves, lambda save: save.created // DAY_SECONDS, config.keep_daily))
        kept.update(
            _pick_last(saves, lambda save: save.created // WEEK_SECONDS, config.keep_weekly)
        )
    return [generation for generation in generations if generation.number not in kept]


def _is_real(generation: Generation, generations: Sequence[Generation]) -> bool:
    """Whether it holds a state that none before it does."""
    if generation.reason in REPEATING:
        return False
    older = (other for other in generations if other.number == generation.parent)
    return all(other.saved != generation.saved for other in older)


def _pick_last(
    saves: Sequence[Generation], period: Callable[[Generation], int], count: int
) -> list[int]:
    """The newest save of each of the newest `count` periods that have one."""
    newest: dict[int, int] = {}
    for save in saves:
        newest.setdefault(period(save), save.number)
    return list(newest.values())[:count]
