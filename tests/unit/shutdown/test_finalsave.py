"""What the console says of the save at shutdown."""

from dataclasses import replace

from ramos.save.commit import CommitReport
from ramos.shutdown.finalsave import describe
from ramos.store.generations import PruneReport

NOTHING = CommitReport(
    0, 0, "links", 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0, 0, 0, 0, PruneReport((), (), 0)
)


def test_nothing_to_save() -> None:
    assert describe(NOTHING) == "nothing has changed since the last save"


def test_a_save() -> None:
    report = replace(NOTHING, generation=7, files=3, layer_bytes=1_500_000, seconds=2.04)
    assert describe(report) == "saved as generation 7: 3 files, 1.4 MiB, 2.0 s"


def test_what_was_left_out_is_named_even_where_nothing_was_saved() -> None:
    for number in (0, 7):
        report = replace(NOTHING, generation=number, entries_left_out=1, left_out=("/a: too long",))
        assert describe(report).endswith("; NOT SAVED: /a: too long")


def test_notes_are_told() -> None:
    waits = "a rollback waits for the reboot"
    assert describe(replace(NOTHING, notes=(waits,))) == waits
    report = replace(NOTHING, generation=7, notes=("it cannot be pinned: full",))
    assert describe(report).startswith("saved as generation 7: ")
    assert describe(report).endswith("; it cannot be pinned: full")
