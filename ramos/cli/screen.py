"""What long work looks like: a line that is written over, lines that stay, a bar.

Owns: every way in which a command shows progress, on standard error, and how a line is folded.
Refuses: standard output (that is for results). Invariant: nothing that is written over is longer
than the terminal is wide, for then it could not be.
"""

import datetime
import os
import re
import shutil
import sys
import textwrap

import click

from ramos.errors import escape
from ramos.progress import Progress

PERCENT = re.compile(r"\b(\d{1,3})(?:\.\d+)?%")
COUNT = re.compile(r"\( *\d+/\d+\) ")
BAR_WIDTH = 20
LINE_CHARS = 79
# A name and at least two spaces: what is said of it is folded to the right of them.
NAME = re.compile(r" *\S+(?: \S+)* {2,}(?=\S)")
MOST_INDENT = 24
# A terminal that says nothing has 80 columns; in one that is narrower than this all is lost.
LEAST_COLUMNS = 40


def describe_moment(seconds: float) -> str:
    """A time of today by the clock, else with its date; the number where no calendar reaches."""
    try:
        moment = datetime.datetime.fromtimestamp(seconds)
    except (OverflowError, ValueError, OSError, TypeError):
        return str(seconds)
    is_today = moment.date() == datetime.datetime.now().date()
    return f"{moment:%H:%M}" if is_today else f"{moment:%Y-%m-%d %H:%M}"


def read_columns() -> int:
    """The width of this terminal."""
    return max(shutil.get_terminal_size().columns, LEAST_COLUMNS)


def fold_line(text: str, columns: int) -> str:
    """One line as several that fit; no word is broken, so that names can be copied."""
    if len(text) <= columns:
        return text
    name = NAME.match(text)
    indent = name.end() if name else MOST_INDENT + 1
    if indent > MOST_INDENT:
        indent = len(text) - len(text.lstrip()) + 2
    return textwrap.fill(
        text,
        columns,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def can_write_over() -> bool:
    """Whether standard error is a terminal on which a line can be written over."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def read_room() -> int:
    """How long a line may be that is written over: one that is folded cannot be."""
    return min(LINE_CHARS, shutil.get_terminal_size().columns - 1)


def show_passing(text: str = "") -> None:
    """A line on the terminal that the next one is written over; without text, nothing is left."""
    if can_write_over():
        click.echo(f"\r\033[K{escape(text)[: read_room()]}", nl=False, err=True)


def show_step(seen: Progress) -> None:
    """One line for all steps, for work that is soon done."""
    head = f"{seen.step} {seen.percent} %  " if seen.total else f"{seen.step}  "
    # The end of a path tells more than its beginning.
    room = max(read_room() - len(head), 1)
    show_passing(f"{head}{seen.detail[-room:]}".rstrip())


def show_kept_step(seen: Progress) -> None:
    """A line a step, which stays; below it, in passing, what the step is at."""
    if seen.detail:
        show_passing(f"  {seen.detail}")
        return
    show_passing(seen.step)
    if can_write_over():
        click.echo(err=True)


class Screen:
    """Shows a build: on a terminal a bar, elsewhere a line for the begin and the end of a step."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose
        self.live = can_write_over() and not verbose

    def show(self, seen: Progress) -> None:
        """What is told of a step."""
        if seen.ended:
            self._print(f"  {seen.step:<22} {seen.detail:>9}" if seen.detail else seen.step)
        elif seen.total:
            self._show_part(seen)
        elif seen.detail:
            self._show_line(seen)
        elif self.live:
            self._draw(seen, "")
        else:
            self._print(f"  {seen.step} ...")

    def _show_part(self, seen: Progress) -> None:
        if self.verbose:
            click.echo(escape(f"{seen.percent} % {seen.detail}".rstrip()), err=True)
        else:
            self._draw(seen, f"{draw_bar(seen.percent)}  {seen.detail}".rstrip())

    def _show_line(self, seen: Progress) -> None:
        """What a program prints has its own signs of how far it is."""
        line = seen.detail
        if self.verbose:
            click.echo(escape(line), err=True)
            return
        percent = PERCENT.search(line)
        if line.startswith("WARNING: "):
            self._print(line)
        elif COUNT.match(line):
            self._draw(seen, line)
        elif percent:
            self._draw(seen, draw_bar(int(percent[1])))
        elif line.startswith("I: "):
            self._draw(seen, line[3:])

    def _draw(self, seen: Progress, text: str) -> None:
        if self.live:
            line = f"  {escape(seen.step):<22} {escape(text)}"[: read_room()]
            click.echo(f"\r\033[K{line}", nl=False, err=True)

    def _print(self, text: str) -> None:
        shown = escape(text)
        click.echo(f"\r\033[K{shown}" if self.live else shown, err=True)


def draw_bar(percent: int) -> str:
    """A bar, and the number beside it."""
    filled = percent * BAR_WIDTH // 100
    return f"[{'#' * filled:<{BAR_WIDTH}}] {percent:>3} %"
