"""What is known about a test, and how it is read from the log that `tracer` and `plugin` write."""

from dataclasses import dataclass, field


@dataclass
class Note:
    """One test."""

    seconds: float = 0.0
    broken: str = ""
    ran: set[str] = field(default_factory=set)


Notes = dict[str, Note]
# Tests that are asked together, and how long each takes.
Stage = dict[str, float]


def parse_log(lines: list[str]) -> Notes:
    """The tests of one file; what is made for some of them counts for all."""
    notes: Notes = {}
    shared: set[str] = set()
    here = own = shared
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "=":
            here = own = notes.setdefault(rest, Note()).ran
        elif word in ("~", "."):
            here = shared if word == "~" else own
        elif word == "!":
            outcome, seconds, name = rest.split(" ", 2)
            notes[name].seconds += float(seconds)
            notes[name].broken = "failed" if outcome == "failed" else notes[name].broken
        else:
            here.add(line)
    for note in notes.values():
        note.ran |= shared
    return notes
