"""What everybody may know of what root alone can see: /run/ramos/public.

Owns: the files there, each one JSON object with the time at which it was true. Refuses: names of
files: of what users have there are counts and sizes, and of an error its words only where every
terminal has had them. Invariants: a file is root's and written as a whole; publishing fails
nothing else.
"""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from ramos.errors import RamosError
from ramos.linux import fs

FOLDER = "public"
FAILURES = "failures"
KEPT_FAILURES = 5
# Whose errors ramosd tells on every terminal.
SPOKEN = frozenset(("stick", "return", "swap-on", "seal", "to-ram", "scrub"))


def publish(run: Path, name: str, **values: Any) -> None:
    """Let everybody read it from now on, whatever the umask of root is."""
    folder = run / FOLDER
    data = json.dumps({"time": int(time.time()), **values}, default=str).encode()
    with contextlib.suppress(OSError, RamosError):
        if not folder.is_dir():
            folder.mkdir()
            folder.chmod(0o755)
        fs.write_durably(folder / f"{name}.json", data)


def read(run: Path, name: str) -> dict[str, Any]:
    """What was published last under a name; nothing where nothing was."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(json.loads((run / FOLDER / f"{name}.json").read_text(encoding="utf-8")))
    return {}


def publish_failure(run: Path, failure: dict[str, Any]) -> None:
    """One more thing that failed in this boot."""
    known = read(run, FAILURES).get(FAILURES, [])
    publish(run, FAILURES, failures=[*known, hide_words(failure)][-KEPT_FAILURES:])


def hide_words(failure: dict[str, Any]) -> dict[str, Any]:
    """A failure without its words, in which any name may be."""
    return failure if failure.get("what") in SPOKEN else {**failure, "error": ""}
