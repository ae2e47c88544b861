"""The order of Alpine's package versions.

Owns: which of two versions is newer. Refuses: nothing; a version that does not follow the rules
sorts by what of it does. Invariant: the order is total over valid versions.

A version is numbers with dots, a letter, suffixes (`_rc1`), `~` and a commit, and `-r` with a
release. In a number after a dot, leading zeros make it older.
"""

import re

EARLIER = ("alpha", "beta", "pre", "rc")
LATER = ("cvs", "svn", "git", "hg", "p")
SUFFIX_ORDER = {name: place - len(EARLIER) for place, name in enumerate(EARLIER)} | {
    name: place + 1 for place, name in enumerate(LATER)
}
VERSION = re.compile(
    r"(?P<numbers>\d+(?:\.\d+)*)(?P<letter>[a-z]?)"
    r"(?P<suffixes>(?:_(?:alpha|beta|pre|rc|cvs|svn|git|hg|p)\d*)*)"
    r"(?:~(?P<hash>[0-9a-f]+))?(?:-r(?P<release>\d+))?"
)
SUFFIX = re.compile(r"_([a-z]+)(\d*)")

# (which kind of part, its value). Where one version ends, the other goes on: an earlier suffix is
# older than the end, everything else is newer, most of all a further number.
_Part = tuple[int, int, str]
NUMBER, FRACTION, LETTER, SUFFIX_NUMBER, LATER_SUFFIX, END, EARLIER_SUFFIX = range(6, -1, -1)


def is_valid(version: str) -> bool:
    """Whether a version follows Alpine's rules."""
    return VERSION.fullmatch(version) is not None


def sort_key(version: str) -> tuple[list[_Part], int]:
    """A key that sorts versions from old to new."""
    match = VERSION.match(version)
    if match is None:
        return [(EARLIER_SUFFIX, -len(SUFFIX_ORDER), version)], 0
    first, *others = match["numbers"].split(".")
    parts: list[_Part] = [(NUMBER, int(first), "")]
    for number in others:
        parts += _order_number(number)
    if match["letter"]:
        parts.append((LETTER, 0, match["letter"]))
    for name, number in SUFFIX.findall(match["suffixes"]):
        order = SUFFIX_ORDER[name]
        parts.append((EARLIER_SUFFIX if order < 0 else LATER_SUFFIX, order, ""))
        parts.append((SUFFIX_NUMBER, int(number or 0), ""))
    parts.append((END, 0, match["hash"] or ""))
    return parts, int(match["release"] or -1)


def _order_number(number: str) -> list[_Part]:
    """A number after a dot: leading zeros count first (the more, the older), then the rest."""
    rest = number.lstrip("0")
    if rest == number:
        return [(NUMBER, int(number), "")]
    zeros: list[_Part] = [(NUMBER, len(rest) - len(number), "")]
    return [*zeros, (FRACTION, int(rest), "")] if rest else zeros


def is_newer(version: str, than: str) -> bool:
    """Whether `version` is newer than `than`."""
    return sort_key(version) > sort_key(than)
