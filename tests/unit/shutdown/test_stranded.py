"""Going down without the stick: who has the last word, and what cannot be brought back."""

from dataclasses import replace
from pathlib import Path

import pytest

from ramos.booted import Boot
from ramos.config import SaveConfig
from ramos.errors import RamosError
from ramos.linux import terminals
from ramos.shutdown import deadline, order, stranded
from ramos.stick import watch


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("ending", [False, True])
def test_who_has_the_last_word(alone: bool, gone: bool, ending: bool) -> None:
    word = stranded.has_last_word(gone=gone, alone=alone, going_down=lambda: ending)
    assert word is (alone or (gone and ending))


@pytest.mark.parametrize("luks", [False, True])
def test_a_stick_that_is_out_is_an_error_with_a_way_out(luks: bool) -> None:
    with pytest.raises(RamosError, match="pulled out") as raised:
        stranded.bring_back(replace(Boot(), luks=luks), None, lambda *_: None)
    assert "same stick" in raised.value.hint


@pytest.mark.parametrize(
    ("result", "settled"), [("elsewhere", True), ("failed", True), ("unchanged", False)]
)
def test_what_was_done_without_the_stick_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str, settled: bool
) -> None:
    began: list[float] = []
    monkeypatch.setattr(stranded, "SETTLED_FILE", tmp_path / "settled")
    monkeypatch.setattr(terminals, "list_consoles", lambda: ())
    monkeypatch.setattr(order, "save_at_shutdown", lambda *_: order.Outcome(result, "text"))
    monkeypatch.setattr(deadline, "start_deadline", began.append)
    monkeypatch.setattr(watch, "is_there", lambda: False)
    stranded.go_down(Boot(), None, SaveConfig(), 7.0)
    assert stranded.was_settled() is settled
    assert began == ([7.0] if settled else [])
    monkeypatch.setattr(watch, "is_there", lambda: True)
    assert not stranded.was_settled()
