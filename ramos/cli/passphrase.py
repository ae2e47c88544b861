"""Asking for the passphrase of a stick.

Owns: the typing, twice where it is a new one. Refuses: showing it.
"""

import sys
from pathlib import Path
from typing import Any

import click

from ramos.errors import UsageError
from ramos.stick import luks


def choose_passphrase(options: dict[str, Any]) -> bytes:
    """The passphrase of an encrypted stick: from a file, else typed twice."""
    file: Path | None = options["passphrase_file"]
    if not options["encrypt"]:
        if file:
            raise UsageError("cannot use", "--passphrase-file", "there is no --encrypt")
        return b""
    if file:
        return luks.read_passphrase_file(file)
    if options.get("passphrase"):
        typed: bytes = options["passphrase"]
        return typed
    if options["plan_only"]:
        return b""
    if options["batch"] or not sys.stdin.isatty():
        raise UsageError(
            "cannot encrypt",
            "--encrypt",
            "nobody can be asked for a passphrase",
            hint="Give --passphrase-file FILE.",
        )
    return ask_new_passphrase("Passphrase that unlocks the stick")


def ask_new_passphrase(text: str = "New passphrase") -> bytes:
    """A new passphrase, typed twice."""
    first: str = click.prompt(text, hide_input=True, default="", show_default=False, err=True)
    chosen = luks.check_passphrase(first.encode())
    if click.prompt("Again", hide_input=True, default="", show_default=False, err=True) != first:
        raise UsageError("cannot use passphrase", "passphrase", "the two differ")
    return chosen
