"""What a phone reads from a terminal, or from a picture of one, by a decoder that is not ours."""

import re

import zxingcpp

MODULE_PIXELS = 4
WHITE, BLACK = 255, 0
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
# As a terminal shows the line of a code: black on white.
COLOURS, NO_COLOURS = "\x1b[30;107m", "\x1b[0m"


def read_terminal(text: str) -> list[str]:
    """The codes that are drawn with half blocks in what was written to a terminal."""
    rows: list[bytes] = []
    for line in text.splitlines():
        if line.startswith(COLOURS):
            cells = line.removeprefix(COLOURS).partition(NO_COLOURS)[0]
            rows += [_paint(cells, "█▀"), _paint(cells, "█▄")]
    if not rows:
        return []
    return read_pixels(b"".join(row * MODULE_PIXELS for row in rows), len(rows[0]))


def read_picture(data: bytes) -> list[str]:
    """The codes in a picture in QEMU's own format."""
    _, size, _, pixels = data.split(b"\n", 3)
    return read_pixels(pixels[1::3], int(size.split()[0]))


def read_pixels(grey: bytes, width: int) -> list[str]:
    """The codes in a picture of one byte a pixel."""
    image = memoryview(grey).cast("B", (len(grey) // width, width))
    return [code.text for code in zxingcpp.read_barcodes(image)]


def _paint(cells: str, dark: str) -> bytes:
    return b"".join(bytes([BLACK if c in dark else WHITE]) * MODULE_PIXELS for c in cells)
