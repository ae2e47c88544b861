"""What the builder of images takes from its options and its environment."""

import pytest

from ramos.cli.image import read_epoch
from ramos.errors import UsageError


@pytest.mark.parametrize(("text", "epoch"), [("", None), ("0", 0), ("1700000000", 1700000000)])
def test_the_time_of_an_image_is_the_one_that_is_asked_for(text: str, epoch: int | None) -> None:
    assert read_epoch(text) == epoch


@pytest.mark.parametrize("text", ["-1", "now", "1.5", str(1 << 32), "\u0661\u00b2"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        read_epoch(text)
