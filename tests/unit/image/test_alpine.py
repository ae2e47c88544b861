"""Why apk could not fill a tree: what it complained of, not all that it said."""

from collections.abc import Callable
from typing import Any

import pytest

from ramos.errors import RamosError
from ramos.image import alpine
from ramos.linux import run


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (["fetch a", "ERROR: b is missing", "1 error"], "ERROR: b is missing"),
        (["fetch a", "no more"], "fetch a | no more"),
        ([], "it ended with 1"),
    ],
)
def test_the_reason_is_what_apk_complained_of(
    monkeypatch: pytest.MonkeyPatch, said: list[str], reason: str
) -> None:
    def fail(_: list[str], listen: Callable[[str], None]) -> Any:
        for line in said:
            listen(line)
        raise RamosError("apk failed", "apk", "it ended with 1")

    monkeypatch.setattr(run, "run_watched", fail)
    heard: list[str] = []
    with pytest.raises(RamosError) as failed:
        alpine.run_apk(["apk"], heard.append)
    assert failed.value.reason == reason
    assert heard == said
