"""Where the time of a boot went: init's steps and the services, as rows and as a drawing.

Owns: finding and reading the boot log and the two service managers' timings, and the SVG. Refuses:
judging them. Invariants: rows are in the order of their start; a line that makes no sense is passed
over; a service manager that tells nothing costs its part of the chart, not the chart.
"""

import contextlib
import itertools
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from ramos import layout
from ramos.errors import RamosError
from ramos.linux import run

OPENRC_STARTED = Path("/run/openrc/started")
SYSTEMD_MARK = Path("/run/systemd/system")
SHOWN_SERVICES = 20
LEAST_SECONDS = 0.05
PROPERTIES = "Id,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic"
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


def list_rows(boot_log: Path = layout.BOOT_LOG) -> list[Row]:
    """Kernel, steps of init, and the services that took longest."""
    try:
        text = boot_log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    rows = chart_init(parse_steps(text))
    end = rows[-1].end_seconds if rows else 0.0
    services = [
        row for row in _list_services(end) if row.end_seconds - row.start_seconds >= LEAST_SECONDS
    ]
    return [*rows, *pick_longest(services, SHOWN_SERVICES)]


def _list_services(begin_seconds: float) -> list[Row]:
    if SYSTEMD_MARK.exists():
        with contextlib.suppress(RamosError):
            argv = ["systemctl", "show", "*.service", "--property", PROPERTIES]
            return chart_systemd(run.run(argv).text)
    if OPENRC_STARTED.is_dir():
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        started = {p.name: os.lstat(p).st_ctime - booted for p in OPENRC_STARTED.iterdir()}
        return chart_openrc(started, begin_seconds)
    return []


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


def chart_systemd(text: str) -> list[Row]:
    """The units of `systemctl show` (one block each): from the begin of their start to its end."""
    rows = []
    for block in text.split("\n\n"):
        pairs = dict(line.partition("=")[::2] for line in block.splitlines())
        start = _read_microseconds(pairs.get("InactiveExitTimestampMonotonic", ""))
        end = _read_microseconds(pairs.get("ActiveEnterTimestampMonotonic", ""))
        if pairs.get("Id") and start and end and end >= start:
            rows.append(Row("services", pairs["Id"].removesuffix(".service"), start, end))
    return sorted(rows, key=lambda row: row.start_seconds)


def chart_openrc(started: Mapping[str, float], begin_seconds: float) -> list[Row]:
    """Services that were started one after the other, by the time at which each was there."""
    rows = []
    for name, end in sorted(started.items(), key=lambda item: item[1]):
        if end >= begin_seconds:
            rows.append(Row("services", name, begin_seconds, end))
            begin_seconds = end
    return rows


def pick_longest(rows: Sequence[Row], count: int) -> list[Row]:
    """The rows that took longest, in their own order."""
    longest = sorted(rows, key=lambda row: row.start_seconds - row.end_seconds)[:count]
    return [row for row in rows if row in longest]


def _read_microseconds(text: str) -> float:
    return int(text) / 1e6 if text.isdigit() else 0.0


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
