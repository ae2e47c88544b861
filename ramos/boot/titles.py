"""What the boot menu says of the newest and of the backup generation.

Owns: one sector beside grubenv, which GRUB reads in the same way. Refuses: files (`esp` writes it
in place), and every character that a plain terminal may not show. Invariant: GRUB finds its way
without; what is said of an encrypted stick tells nothing of what was saved.
"""

import re
import time

from ramos.boot.grubenv import HEADER, SIZE_BYTES
from ramos.store.generation import Generation

# An entry of GRUB's menu has 74 columns on a terminal of 80, and its name comes first.
MOST_CHARS = 54
SHOWN = re.compile(r"[^A-Za-z0-9 .,:;!?()/+_'-]")


def describe(generation: Generation | None, *, secret: bool) -> str:
    """One line; without its message where that must not stand outside of the encryption."""
    if generation is None:
        return ""
    if not generation.layers:
        return f"generation {generation.number}, as it was made"
    try:
        made = time.strftime("%d %b %Y %H:%M", time.localtime(generation.created))
    except (OverflowError, ValueError, OSError):
        made = "no date"
    text = f"generation {generation.number}, {made}"
    message = SHOWN.sub("?", generation.message)
    if message and not secret:
        text = f"{text}: {message}"
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 3].rstrip()}..."


def render(newest: str, backup: str) -> bytes:
    """The sector; GRUB keeps its own words for a line that is empty."""
    lines = [f"ramos_{name}={text}\n" for name, text in (("newest", newest), ("backup", backup))]
    kept = "".join(line for line in lines if not line.endswith("=\n"))
    return (HEADER + kept.encode("ascii")).ljust(SIZE_BYTES, b"#")
