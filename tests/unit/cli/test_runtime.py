"""What `ramos boot confirm` says of what it did."""

import pytest
from click.testing import CliRunner

from ramos.boot import confirm
from ramos.boot.confirm import Attempts
from ramos.boot.grubenv import BootEnv
from ramos.booted import Boot, Mode
from ramos.cli import runtime


@pytest.mark.parametrize(("written", "word"), [(True, "confirmed"), (False, "nothing to confirm")])
def test_a_confirmation_says_whether_anything_was_written(
    monkeypatch: pytest.MonkeyPatch, written: bool, word: str
) -> None:
    attempts = Attempts(BootEnv(good="6.1", gen_good=7), ("6.1",), written)
    monkeypatch.setattr(runtime, "read_boot", lambda _: Boot())
    for name in ("release_guard", "tell_last_shutdown", "note_boot"):
        monkeypatch.setattr(confirm, name, lambda *_: None)
    monkeypatch.setattr(confirm, "confirm_boot", lambda *_: attempts)
    done = CliRunner().invoke(runtime.boot_confirm)
    assert done.output == f"{word}: kernel 6.1, generation 7\n"


def test_a_boot_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Boot(mode=Mode.DEFAULT, generation=7, kernel="6.1", upper="zram", restore="mount")
    monkeypatch.setattr(runtime, "read_boot", lambda _: seen)
    attempts = Attempts(BootEnv(good="6.1", gen_good=7), ("6.1",))
    monkeypatch.setattr(confirm, "read_attempts", lambda _: attempts)
    said = CliRunner().invoke(runtime.boot).output
    assert said.startswith("default, generation 7, kernel 6.1\nchanges on zram, layers by mount, ")
    assert "kernels on the ESP: 6.1" in said
