"""Where the time of a boot went: init's steps and the services, as rows and as a drawing.

Owns: reading the boot log and the two service managers' timings, and the SVG. Refuses: files and
processes (text in, text out). Invariant: rows are in the order of their start; a line that makes
no sense is passed over.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

STEP_PATTERN = re.compile(r"([0-9]{1,9}(?:\.[0-9]+)?) (\S+) ?(.*)")
ROW_PIXELS = 20
LEFT_PIXELS = 190
WIDTH_PIXELS = 980
COLORS = {"kernel": "#7a869a", "init": "#2f6fde", "services": "#3c9a5f"}


@dataclass(frozen=True)
class Row:
    """A piece of the boot: seconds since the kernel started."""

    part: str
    name: str
    start_seconds: float
    end_seconds: float


def parse_steps(text: str) -> list[tuple[float, str, str]]:
    """The (uptime, step, text) lines of /run/ramos/boot.log."""
    matches = (STEP_PATTERN.fullmatch(line) for line in text.split("\n"))
    return [(float(m[1]), m[2], m[3]) for m in matches if m]


def chart_init(steps: Sequence[tuple[float, str, str]]) -> list[Row]:
    """The kernel until init's first line, then each step until the next one."""
    if not steps:
        return []
    rows = [Row("kernel", "kernel", 0.0, steps[0][0])]
    for here, after in itertools.pairwise(steps):
        if after[0] > here[0]:
            rows.append(Row("init", here[1], here[0], after[0]))
    return rows


def parse_systemd(text: str) -> dict[str, float]:
    """Seconds since the kernel started, by property, of `systemctl show` (microseconds)."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: int(value) / 1e6 for key, _, value in pairs if value.isdigit() and int(value)}


def chart_unit(name: str, text: str) -> Row | None:
    """When a unit began to start and when it was there, of `systemctl show`."""
    times = parse_systemd(text)
    start = times.get("InactiveExitTimestampMonotonic")
    end = times.get("ActiveEnterTimestampMonotonic", start)
    if start is None or end is None:
        return None
    return Row("services", name, start, max(start, end))


def draw_svg(rows: Sequence[Row], title: str) -> str:
    """A bar for each row on a scale of seconds."""
    end = max((row.end_seconds for row in rows), default=1.0) or 1.0
    scale = (WIDTH_PIXELS - LEFT_PIXELS - 70) / end
    height = (len(rows) + 3) * ROW_PIXELS
    step = next(s for s in (0.5, 1, 2, 5, 10, 30, 60, 300, 3600) if end / s <= 16 or s == 3600)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PIXELS}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="8" y="15" font-weight="bold">{escape(title)}</text>',
    ]
    for index in range(int(end / step) + 1):
        x = LEFT_PIXELS + index * step * scale
        lines.append(
            f'<line x1="{x:.1f}" y1="{ROW_PIXELS}" x2="{x:.1f}" y2="{height - ROW_PIXELS}" '
            'stroke="#dddddd"/>'
            f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{index * step:g} s</text>'
        )
    for number, row in enumerate(rows):
        lines.append(_draw_row(row, (number + 1.3) * ROW_PIXELS, scale))
    return "\n".join([*lines, "</svg>", ""])


def _draw_row(row: Row, top: float, scale: float) -> str:
    x = LEFT_PIXELS + row.start_seconds * scale
    width = max(1.0, (row.end_seconds - row.start_seconds) * scale)
    color = COLORS.get(row.part, "#888888")
    return (
        f'<text x="{LEFT_PIXELS - 6}" y="{top + 11:.1f}" text-anchor="end">'
        f"{escape(row.name)}</text>"
        f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{ROW_PIXELS - 6}" '
        f'fill="{color}"/>'
        f'<text x="{x + width + 4:.1f}" y="{top + 11:.1f}" fill="#555555">'
        f"{row.end_seconds - row.start_seconds:.2f}</text>"
    )
