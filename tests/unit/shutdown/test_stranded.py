"""Going down without the stick: who has the last word, and what cannot be brought back."""

from dataclasses import replace
from pathlib import Path

import pytest

from ramos.booted import Boot
from ramos.config import SaveConfig
from ramos.errors import RamosError
from ramos.linux import run, terminals
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


@pytest.mark.parametrize(
    ("alone", "result", "seconds", "ends"),
    [
        (True, "unchanged", 0.0, ["poweroff"]),
        (True, "elsewhere", 0.0, []),
        (False, "unchanged", stranded.END_SECONDS, []),
    ],
)
def test_who_is_alone_ends_the_system_and_others_get_their_time(
    monkeypatch: pytest.MonkeyPatch, alone: bool, result: str, seconds: float, ends: list[str]
) -> None:
    asked: list[float] = []
    ran: list[str] = []

    def go_down(*words: float) -> order.Outcome:
        asked.append(words[3])
        return order.Outcome(result, "text")

    monkeypatch.setattr(stranded, "go_down", go_down)
    monkeypatch.setattr(stranded, "is_going_down", lambda: True)
    monkeypatch.setattr(run, "run", lambda argv, **_: ran.extend(argv))
    stranded.leave(Boot(), None, SaveConfig(), gone=True, alone=alone)
    assert (asked, ran) == ([seconds], ends)
