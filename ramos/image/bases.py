"""The bases that an image can be made of, and which one `auto` means.

Owns: their order, and the init system that each has by itself. Refuses: knowing how one is made.
"""

from dataclasses import replace

from ramos.image import alpine, debian
from ramos.image.plan import Base, NoImageError, Plan

# In the order in which `auto` prefers them.
BASES: dict[str, Base] = {"alpine": alpine, "debian": debian}


def choose_base(plan: Plan) -> tuple[Plan, str]:
    """Settle `auto`: the first base whose mirror answers; and say why."""
    if plan.base != "auto":
        return settle_init(plan), f"base: {plan.base}"
    reasons: list[str] = []
    for name, base in BASES.items():
        reason = base.probe(replace(plan, base=name))
        if not reason:
            because = "; ".join(reasons) or "its mirror answers"
            return settle_init(replace(plan, base=name)), f"base: {name} ({because})"
        reasons.append(f"{name}: {reason}")
    raise NoImageError(
        "cannot choose a base",
        "auto",
        "; ".join(reasons),
        hint="Check the network, or name a mirror with --mirror.",
    )


def settle_init(plan: Plan) -> Plan:
    """The init system: as asked for, else the base's own."""
    return replace(plan, init=plan.init or BASES[plan.base].DEFAULT_INIT)
