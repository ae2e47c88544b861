"""What builds were measured to take: for an estimate before one, and for the least that it needs.

Owns: the figures. Refuses: measuring; they are those of bench/RESULTS.md, "A build". Invariant:
what is called the least is well below what was measured, for releases and packages differ: nothing
is refused that could work.
"""

from dataclasses import dataclass

from ramos.image.plan import Plan, minimum_size
from ramos.sizes import MIB

CERTAIN_PERCENT = 75


@dataclass(frozen=True)
class Figures:
    """Of one build: the image on a disk, its root tree in the cache, and the time; 0: unknown."""

    image_mib: int
    tree_mib: int
    seconds: int = 0


# By base and profile. Alpine's rescue profile is not measured.
FIGURES = {
    ("alpine", "minimal"): Figures(85, 132),
    ("debian", "minimal"): Figures(193, 640),
    ("debian", "rescue"): Figures(435, 1123, 68),
}
SMALLEST = ("alpine", "minimal")


def find_least(plan: Plan) -> Figures:
    """What a build takes in any case; of a profile that was not measured, the smaller one's."""
    known = ((plan.base, plan.profile), (plan.base, "minimal"), SMALLEST)
    least = next(FIGURES[key] for key in known if key in FIGURES)
    parts = (least.image_mib, least.tree_mib)
    return Figures(*(part * CERTAIN_PERCENT // 100 for part in parts))


def find_least_size(plan: Plan) -> int:
    """The size below which no image of this kind has room to be saved to."""
    return minimum_size(plan, find_least(plan).image_mib * MIB)


def describe_build(base: str, profile: str) -> str:
    """What an image of this kind takes, for whoever has to choose; empty where nobody knows."""
    figures = FIGURES.get((base, profile))
    if figures is None:
        return ""
    said = f"about {round_figure(figures.image_mib)} MiB"
    return f"{said}, about {round_figure(figures.seconds)} s to build" if figures.seconds else said


def round_figure(number: int) -> int:
    """To tens: the last digit would promise more than was measured."""
    return (number + 5) // 10 * 10
