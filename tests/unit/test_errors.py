"""The shape of what users are told."""

import pytest

from ramos.errors import RamosError, find_reason

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
