"""Names that anybody can give to a file, a label or a parameter; and which text is harmless."""

import os

# A title, a colour and a cleared screen; a line that overwrites; a line of its own; the same by one
# C1 control each; text that runs backwards; a byte that is no text; a bell, a rubout, a separator.
HOSTILE = (
    b"a\x1b]0;owned\x07\x1b[2J\x1b[31mb",
    b"a\rramos: all good\x1b[K",
    b"a\nramos: all good",
    "a\x9b31m\x90q\x9cb".encode(),
    "a\u202e\u2066gpj.exe\u2069b".encode(),
    b"a\xff\xfe\x80b",
    "a\x7f\x08\x0b\x85\u2028b".encode(),
)
HOSTILE_TEXTS = tuple(os.fsdecode(name) for name in HOSTILE)


def find_harm(shown: bytes) -> list[str]:
    """What in a text would do something else on a terminal than stand there."""
    text = shown.decode("utf-8", "surrogateescape")
    return [repr(c) for c in text if c != "\n" and not c.isprintable()]
