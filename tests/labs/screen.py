"""What a person reads on the screen of a machine, from a picture of it.

No font is needed: a text is there where equal letters look equal, and different ones different.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from ramos.vm.machine import Machine

CELL_WIDTH, CELL_HEIGHT = 8, 16
PIXEL_BYTES = 3
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Picture:
    """Rows of cells, each as the bytes of its pixels."""

    rows: tuple[tuple[bytes, ...], ...]

    def shows(self, text: str) -> bool:
        """Whether the text stands in one row."""
        starts = (row[at:] for row in self.rows for at in range(len(row) - len(text) + 1))
        return any(is_text(cells[: len(text)], text) for cells in starts)


def is_text(cells: tuple[bytes, ...], text: str) -> bool:
    """Whether each letter is one picture, and each picture one letter; a blank has one colour."""
    pictures = dict(zip(text, cells, strict=True))
    pairs = set(zip(text, cells, strict=True))
    blank = pictures.get(" ", b"")
    colours = {blank[at : at + PIXEL_BYTES] for at in range(0, len(blank), PIXEL_BYTES)}
    return len(pairs) == len(pictures) == len(set(pictures.values())) and len(colours) <= 1


def await_text(machine: Machine, scratch: Path, text: str) -> None:
    """Wait until the screen shows a text: it follows the serial line after a moment."""
    path = scratch / "screen.ppm"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        machine.qmp.execute("screendump", filename=str(path))
        if read_picture(path.read_bytes()).shows(text):
            return
        assert time.monotonic() < deadline, f"not on the screen: {text}; see {path}"
        time.sleep(1)


def read_picture(data: bytes) -> Picture:
    """A picture in QEMU's own format: three lines of text, then the pixels."""
    _, size, _, pixels = data.split(b"\n", 3)
    width, height = map(int, size.split())
    line, cell = width * PIXEL_BYTES, CELL_WIDTH * PIXEL_BYTES
    rows = []
    for top in range(0, height - CELL_HEIGHT + 1, CELL_HEIGHT):
        lines = [pixels[y * line : (y + 1) * line] for y in range(top, top + CELL_HEIGHT)]
        cells = (b"".join(part[x : x + cell] for part in lines) for x in range(0, line, cell))
        rows.append(tuple(cells))
    return Picture(tuple(rows))
