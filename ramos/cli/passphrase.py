"""Asking for the passphrase of a stick.

Owns: the typing, twice where it is a new one. Refuses: showing it.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramos.cli import show_line
from ramos.cli.prompt import encode_secret, read_secret
from ramos.errors import UsageError
from ramos.stick import luks


def check_source(options: Mapping[str, Any]) -> None:
    """Refuse an encrypted stick whose passphrase cannot be had, and one that is for nothing."""
    file: Path | None = options["passphrase_file"]
    if file and not options["encrypt"]:
        raise UsageError("cannot use", "--passphrase-file", "there is no --encrypt")
    if file:
        luks.read_passphrase_file(file)
    elif options["encrypt"] and (options["batch"] or not sys.stdin.isatty()):
        raise UsageError(
            "cannot encrypt",
            "--encrypt",
            "nobody can be asked for a passphrase",
            hint="Give --passphrase-file FILE.",
        )


def choose_passphrase(options: Mapping[str, Any]) -> bytes:
    """The passphrase of an encrypted stick: from a file, as answered before, else typed twice."""
    if not options["encrypt"]:
        return b""
    if options["passphrase_file"]:
        return luks.read_passphrase_file(options["passphrase_file"])
    return options.get("passphrase") or ask_new_passphrase("Passphrase that unlocks the stick")


def ask_new_passphrase(text: str = "New passphrase") -> bytes:
    """A new passphrase, typed twice; what cannot be one is explained, and asked for again."""
    while True:
        typed = encode_secret(read_secret(text))
        try:
            luks.check_passphrase(typed)
        except UsageError as error:
            show_line(f"{error.reason}: type another.".capitalize(), err=True)
            continue
        if encode_secret(read_secret("Again")) == typed:
            return typed
        show_line("The two differ: type it again.", err=True)
