"""Reading what somebody types, one line at a time: shown, or hidden where it is a secret.

Owns: what ends the asking (Ctrl-C, the end of the input), and bytes that are no text. Refuses:
judging an answer, and standard output (that is for results). Invariant: whatever ends it, the
cursor is on a fresh line, and one line says so.
"""

import getpass
import sys
from collections.abc import Callable

from ramos.cli import show_line
from ramos.errors import EXIT_INTERRUPTED, RefusedError, UsageError, escape


class StoppedError(RefusedError):
    """Whoever was asked pressed Ctrl-C."""

    exit_code = EXIT_INTERRUPTED


def read_line(text: str) -> str:
    """What is typed after `text`, without the end of the line."""

    def read() -> str:
        show_line(f"{text}: ", err=True, nl=False)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    return _read(read)


def read_secret(text: str) -> str:
    """The same, not shown while it is typed."""
    return _read(lambda: getpass.getpass(f"{escape(text)}: "))


def encode_secret(typed: str) -> bytes:
    """The bytes of a secret, as they were typed, whatever they are."""
    return typed.encode("utf-8", "surrogateescape")


def _read(read: Callable[[], str]) -> str:
    while True:
        try:
            return read()
        except UnicodeDecodeError:
            show_line("That is no text as this terminal writes it: type it again.", err=True)
        except EOFError:
            show_line("", err=True)
            reason, hint = "the input has ended", "Options can say what is asked: see --help."
            raise UsageError("cannot ask", "the terminal", reason, hint=hint) from None
        except KeyboardInterrupt:
            show_line("", err=True)
            raise StoppedError("stopped", "the questions", "Ctrl-C was pressed") from None
