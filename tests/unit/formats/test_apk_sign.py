"""Signing and checking with a key that is none: which key it was, and that nothing was written."""

from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.formats.apk_sign import sign


def test_a_key_that_is_none_is_named(tmp_path: Path) -> None:
    key = tmp_path / "mine.rsa"
    key.write_text("no key")
    with pytest.raises(RamosError, match=r"cannot sign: .*mine\.rsa: .*\. Nothing was written"):
        sign(b"data", key)
