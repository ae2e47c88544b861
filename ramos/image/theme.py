"""The look of the boot menu on a screen: GRUB's theme, with its title drawn here.

Owns: the files below grub/theme on the ESP. Refuses: fonts of its own (GRUB brings one) and what
only one size of screen could show. Invariant: without any of these files the menu is there all the
same, as text where need be.
"""

import struct
import zlib
from pathlib import Path

from ramos import layout

FOLDER = f"{Path(layout.GRUB_CFG).parent}/theme"
TEMPLATE = "theme.txt"
FONT = Path("/usr/share/grub/ascii.pf2")
TITLE = "title.png"
# The bar behind the entry that is chosen: its middle, and what stands out at its ends.
BAR, BAR_ENDS = "bar_c.png", ("bar_w.png", "bar_e.png")

LETTERS = {
    "R": ("#### ", "#   #", "#   #", "#### ", "# #  ", "#  # ", "#   #"),
    "A": (" ### ", "#   #", "#   #", "#####", "#   #", "#   #", "#   #"),
    "M": ("#   #", "## ##", "# # #", "# # #", "#   #", "#   #", "#   #"),
    "O": (" ### ", "#   #", "#   #", "#   #", "#   #", "#   #", " ### "),
    "S": (" ####", "#    ", "#    ", " ### ", "    #", "    #", "#### "),
}
BLOCK_PIXELS = 6
BAR_END_PIXELS = 10
NIGHT, LIGHT, ACCENT = (0x0F, 0x14, 0x1A), (0xF2, 0xF4, 0xF6), (0x2A, 0x6F, 0xB5)
Colour = tuple[int, int, int]


def make_theme(text: str, work: Path) -> dict[str, Path]:
    """Write the files of the theme (name below the ESP -> source); `text` is its description."""
    files = {
        TEMPLATE: text.encode("ascii"),
        FONT.name: FONT.read_bytes(),
        TITLE: draw_title("RAMOS"),
        BAR: render_png([[ACCENT]]),
        **dict.fromkeys(BAR_ENDS, render_png([[ACCENT] * BAR_END_PIXELS])),
    }
    sources = {}
    for name, data in files.items():
        source = work / name
        source.write_bytes(data)
        sources[f"{FOLDER}/{name}"] = source
    return sources


def draw_title(word: str) -> bytes:
    """A word in large letters, as a picture."""
    rows = [" ".join(LETTERS[letter][y] for letter in word) for y in range(len(LETTERS["R"]))]
    picture = []
    for row in rows:
        line = [LIGHT if cell == "#" else NIGHT for cell in row for _ in range(BLOCK_PIXELS)]
        picture += [line] * BLOCK_PIXELS
    return render_png(picture)


def render_png(picture: list[list[Colour]]) -> bytes:
    """A picture in the form that GRUB reads: eight bits a colour, not interlaced, no filter."""
    lines = b"".join(b"\0" + b"".join(bytes(colour) for colour in row) for row in picture)
    header = struct.pack(">IIBBBBB", len(picture[0]), len(picture), 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_render_chunk(*chunk) for chunk in chunks)


def _render_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
