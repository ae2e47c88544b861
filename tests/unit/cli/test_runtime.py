"""What `ramos boot confirm` says of what it did."""

import pytest
from click.testing import CliRunner

from ramos.boot import confirm
from ramos.boot.confirm import Attempts
from ramos.boot.grubenv import BootEnv
from ramos.booted import Boot
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
