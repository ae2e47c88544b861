"""A passphrase is one that can be typed at the boot, and one that cryptsetup takes."""

import pytest

from ramos.errors import RamosError
from ramos.stick.luks import MAX_PASSPHRASE_BYTES, check_passphrase


@pytest.mark.parametrize("passphrase", [b"x", b"correct horse", b"x" * MAX_PASSPHRASE_BYTES])
def test_what_can_be_typed_is_taken(passphrase: bytes) -> None:
    assert check_passphrase(passphrase) == passphrase


@pytest.mark.parametrize(
    ("passphrase", "reason"),
    [
        (b"", "it is empty"),
        (b"a\nb", "cannot be typed"),
        (b"a\0b", "cannot be typed"),
        (b"x" * (MAX_PASSPHRASE_BYTES + 1), "it is longer than"),
    ],
)
def test_what_cannot_is_refused_with_a_reason(passphrase: bytes, reason: str) -> None:
    with pytest.raises(RamosError, match=reason):
        check_passphrase(passphrase)
