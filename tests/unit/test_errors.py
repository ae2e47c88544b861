"""The shape of what users are told."""

import pytest

from ramos.errors import LockedError, RamosError, RefusedError, UsageError, find_reason

FULL = OSError(28, "No space left on device", "/persist/x")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FULL, "No space left on device"),
        (OSError("only words"), "only words"),
        (RamosError("cannot read", "/x", "it is gone", "Nothing changed"), "it is gone"),
        (RamosError("cannot read", "/x", FULL), "No space left on device"),
        (ValueError("no number"), "no number"),
        ("as it is", "as it is"),
    ],
)
def test_a_reason_names_no_place_and_is_never_missing(error: object, reason: str) -> None:
    assert find_reason(error) == reason
    assert str(RamosError("cannot write", "/y", error)) == f"cannot write: /y: {reason}."


@pytest.mark.parametrize("kind", [RefusedError, UsageError, LockedError])
def test_what_was_not_begun_says_that_nothing_changed(kind: type[RamosError]) -> None:
    assert (
        str(kind("cannot save", "x", "no room")) == "cannot save: x: no room. Nothing was changed."
    )
    assert (
        str(kind("cannot save", "x", "no room", "It waits")) == "cannot save: x: no room. It waits."
    )
    assert str(RamosError("cannot save", "x", "no room")) == "cannot save: x: no room."
