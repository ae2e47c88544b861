"""What a long job looks like: a bar on a terminal, a line a step elsewhere.

Owns: the showing of events, on standard error. Refuses: standard output (that is for results).
"""

import re
import sys

import click

from ramos.errors import escape
from ramos.image.progress import Event

PERCENT = re.compile(r"\b(\d{1,3})(?:\.\d+)?%\s*(.{0,40})")
COUNT = re.compile(r"\( *\d+/\d+\) ")
BAR_WIDTH = 24


class Screen:
    """Shows events on standard error: a bar on a terminal, a line a step elsewhere."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose
        self.live = sys.stderr.isatty() and not verbose
        self.step = ""

    def show(self, event: Event) -> None:
        """One event."""
        if event.kind == "step":
            self.step = event.text
            self._draw("")
        elif event.kind == "line":
            self._show_line(event.text)
        elif event.kind == "done":
            self._print(f"  {event.text:<22} {event.seconds:7.1f} s")
        elif event.kind == "reused":
            self._print(f"  {event.text:<22}  reused")
        else:
            self._print(event.text)

    def _show_line(self, line: str) -> None:
        if self.verbose:
            click.echo(escape(line), err=True)
            return
        percent = PERCENT.search(line)
        if line.startswith("WARNING: "):
            self._print(line)
        elif COUNT.match(line):
            self._draw(line[:60])
        elif percent:
            filled = int(percent[1]) * BAR_WIDTH // 100
            self._draw(f"[{'#' * filled:<{BAR_WIDTH}}] {percent[1]:>3} %")
        elif line.startswith("I: "):
            self._draw(line[3:60])

    def _draw(self, text: str) -> None:
        if self.live:
            click.echo(f"\r\033[K  {escape(self.step):<22} {escape(text)}", nl=False, err=True)

    def _print(self, text: str) -> None:
        shown = escape(text)
        click.echo(f"\r\033[K{shown}" if self.live else shown, err=True)
