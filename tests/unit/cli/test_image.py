"""What the builder of images takes from its options and its environment."""

from pathlib import Path

import pytest

from ramos.cli.request import read_epoch, read_password
from ramos.errors import UsageError


@pytest.mark.parametrize(("text", "epoch"), [("", None), ("0", 0), ("1700000000", 1700000000)])
def test_the_time_of_an_image_is_the_one_that_is_asked_for(text: str, epoch: int | None) -> None:
    assert read_epoch(text) == epoch


@pytest.mark.parametrize("text", ["-1", "now", "1.5", str(1 << 32), "\u0661\u00b2"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        read_epoch(text)


def test_the_password_is_the_typed_one_or_the_line_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"of a file\r\n")
    assert read_password({"password_file": None}) == b""
    assert read_password({"password_file": None, "password": b"typed"}) == b"typed"
    assert read_password({"password_file": file, "password": b"typed"}) == b"of a file"


@pytest.mark.parametrize("text", [b"", b"\n", b"two\nlines", b"\0"])
def test_a_file_without_one_line_holds_no_password(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "password").write_bytes(text)
    with pytest.raises(UsageError, match="one line of text"):
        read_password({"password_file": tmp_path / "password"})
    with pytest.raises(UsageError, match="cannot read password"):
        read_password({"password_file": tmp_path / "none"})
