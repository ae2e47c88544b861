"""The theme of the boot menu: which files it has, and pictures that others can read."""

import re
import struct
import zlib
from pathlib import Path

import pytest

from ramos.image import grub, theme


def read_png(data: bytes) -> list[list[tuple[int, ...]]]:
    """Rows of colours, as the standard has them; every checksum is looked at."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + size)
        assert checksum == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + size
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0]
    lines = zlib.decompress(chunks[b"IDAT"])
    assert len(lines) == height * (1 + 3 * width)
    rows = [lines[y * (1 + 3 * width) :][: 1 + 3 * width] for y in range(height)]
    assert {row[0] for row in rows} == {0}
    return [[tuple(row[x : x + 3]) for x in range(1, len(row), 3)] for row in rows]


def test_the_title_is_the_word_in_blocks() -> None:
    rows = read_png(theme.draw_title("RAMOS"))
    assert (len(rows[0]), len(rows)) == (29 * theme.BLOCK_PIXELS, 7 * theme.BLOCK_PIXELS)
    shown = ["".join("#" if dot == theme.LIGHT else " " for dot in row) for row in rows]
    assert shown[0][:: theme.BLOCK_PIXELS] == "####   ###  #   #  ###   ####"
    assert shown[-1][:: theme.BLOCK_PIXELS] == "#   # #   # #   #  ###  #### "


@pytest.mark.parametrize("picture", [[[theme.ACCENT]], [[theme.NIGHT, theme.LIGHT]] * 3])
def test_pictures_are_read_back(picture: list[list[theme.Colour]]) -> None:
    assert read_png(theme.render_png(picture)) == picture


def test_the_description_names_only_files_that_are_there(tmp_path: Path) -> None:
    text = grub.read_template(theme.TEMPLATE)
    files = theme.make_theme(text, tmp_path)
    names = {Path(name).name for name in files}
    assert {str(Path(name).parent) for name in files} == {"grub/theme"}
    assert set(re.findall(r'file = "(.*)"', text)) <= names
    (style,) = re.findall(r'pixmap_style = "(.*)"', text)
    assert {style.replace("*", side) for side in "cew"} <= names
    assert "Unifont Regular 16" in text
    assert b"Unifont Regular 16" in files[f"grub/theme/{theme.FONT.name}"].read_bytes()
    assert f'desktop-color: "#{bytes(theme.NIGHT).hex()}"' in text, "as behind the title"
