"""Reading a line: its end, Ctrl-C, bytes that are no text, and secrets that are typed twice."""

import getpass
import io
from collections.abc import Callable, Iterator

import pytest

from ramos.cli import passphrase, prompt
from ramos.errors import RamosError


def type_lines(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(lines)))


def give(monkeypatch: pytest.MonkeyPatch, *typed: object) -> None:
    """What somebody types where it is not shown; an exception is what happens instead."""
    left: Iterator[object] = iter(typed)

    def read(_: str) -> str:
        if isinstance(word := next(left), BaseException):
            raise word
        return str(word)

    monkeypatch.setattr(getpass, "getpass", read)


def test_a_line_is_read_without_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines(monkeypatch, " a b \r\n", "last")
    assert [prompt.read_line("Name"), prompt.read_line("Na\x1bme")] == [" a b ", "last"]
    assert capsys.readouterr() == ("", "Name: Na\\x1bme: ")


@pytest.mark.parametrize("read", [prompt.read_line, prompt.read_secret])
def test_the_end_of_the_input_is_an_error(
    read: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines(monkeypatch)
    give(monkeypatch, EOFError())
    with pytest.raises(RamosError, match="the input has ended") as caught:
        read("Name")
    assert (caught.value.exit_code, "--help" in caught.value.hint) == (2, True)
    assert capsys.readouterr().err.endswith("\n")


def test_ctrl_c_is_one_line_and_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, KeyboardInterrupt())
    with pytest.raises(RamosError, match="Nothing was changed") as caught:
        prompt.read_secret("Name")
    assert caught.value.exit_code == 130
    assert capsys.readouterr().err == "\n"


def test_bytes_that_are_no_text_are_typed_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, UnicodeDecodeError("utf-8", b"\xfc", 0, 1, "x"), "word")
    assert prompt.read_secret("Name") == "word"
    assert "type it again" in capsys.readouterr().err
    assert prompt.encode_secret("\udcfc\u00fc") == b"\xfc\xc3\xbc"


def test_a_new_passphrase_is_asked_for_until_it_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, "", "one", "two", "one", "one")
    assert passphrase.ask_new_passphrase() == b"one"
    told = capsys.readouterr().err
    assert "It is empty: type another." in told
    assert "The two differ: type it again." in told


def test_a_passphrase_that_is_known_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch)
    options = {"encrypt": True, "passphrase_file": None, "passphrase": b"typed"}
    assert passphrase.choose_passphrase(options) == b"typed"
    assert passphrase.choose_passphrase({**options, "encrypt": False}) == b""
