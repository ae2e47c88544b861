"""What the boot menu says of generations: one sector, short, and of plain characters."""

import pytest

from ramos.boot.grubenv import HEADER, SIZE_BYTES
from ramos.boot.titles import MOST_CHARS, describe, render
from ramos.store.generation import Generation, StoredFile

LAYER = StoredFile("layer", f"upperfs/layers/{'a' * 64}.squashfs", 1, "a" * 64, "")


def make(message: str = "", created: int = 1_700_000_000) -> Generation:
    return Generation(12, 11, created, "6.1", "user", message, (LAYER,))


def test_a_title_has_number_date_and_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    said = describe(make("before the upgrade"), secret=False)
    assert said == "generation 12, 14 Nov 2023 22:13: before the upgrade"[:MOST_CHARS]


def test_what_was_never_saved_is_as_it_was_made() -> None:
    made = Generation(1, 0, 1_700_000_000, "6.1", "build", "", ())
    assert describe(made, secret=False) == "generation 1, as it was made"
    assert describe(None, secret=False) == ""


def test_an_encrypted_stick_tells_no_message() -> None:
    assert "divorce" in describe(make("divorce"), secret=False)
    assert "divorce" not in describe(make("divorce"), secret=True)


@pytest.mark.parametrize("message", ["\x1b[2J", "a\nramos_backup=b", "$root", "ünü", "#" * 900])
def test_no_message_breaks_out_of_its_line(message: str) -> None:
    said = describe(make(message), secret=False)
    assert len(said) <= MOST_CHARS
    block = render(said, said)
    assert len(block) == SIZE_BYTES
    assert block[len(HEADER) :].rstrip(b"#").decode("ascii").splitlines() == [
        f"ramos_newest={said}",
        f"ramos_backup={said}",
    ]
    assert not set(said) & set('\x1b$#\n\\"')


def test_a_moment_that_no_calendar_has_is_said_so() -> None:
    assert describe(make(created=1 << 62), secret=False) == "generation 12, no date"


def test_nothing_to_say_leaves_grub_its_own_words() -> None:
    assert render("", "") == HEADER.ljust(SIZE_BYTES, b"#")
