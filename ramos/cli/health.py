"""The commands about the stick's life and the room for changes: health and usage.

Owns: how they are shown. Refuses: measuring (`health`, `usage` and `scrub` do).
"""

import os
import sys
from dataclasses import asdict

import click

from ramos.booted import read_boot
from ramos.cli import JSON, print_json, run_again_as_root, show_line
from ramos.cli.save import describe_failure, find_places
from ramos.cli.screen import describe_moment, show_passing, show_step
from ramos.errors import EXIT_DAMAGED
from ramos.layout import Places
from ramos.save import usage
from ramos.save.session import read_session
from ramos.save.visible import is_needed
from ramos.sizes import format_count, format_size
from ramos.stick import health
from ramos.store import scrub


@click.command("health")
@click.option("--scrub", "do_scrub", is_flag=True, help="Read and compare everything stored first.")
@JSON
def health_command(do_scrub: bool, as_json: bool) -> None:
    """Show what the stick has been through: writes, errors, the last scrub, the wear.

    \b
    Examples:
      ramos health            the numbers
      ramos health --scrub    read everything that is stored and compare it first
      ramos health --json     for programs
    """
    if do_scrub:
        run_again_as_root()
    places = find_places()
    read_boot(places)
    if do_scrub:
        _scrub(places)
    found = health.find_health(places)
    if os.geteuid() == 0:
        health.publish_health(places, found)
    if as_json:
        print_json(asdict(found))
    else:
        _show(found)
    if found.damaged:
        sys.exit(EXIT_DAMAGED)


def _scrub(places: Places) -> None:
    scrub.scrub_and_note(places, show_step)
    show_passing()


def _show(found: health.Health) -> None:
    total, boot = format_size(found.bytes_written_total), format_size(found.bytes_written_boot)
    show_line(f"written      {total} in {format_count(found.boots, 'boot')}, {boot} in this one")
    if found.bytes_a_day is not None:
        show_line(f"             {format_size(found.bytes_a_day)} a day")
    if found.wear_percent is not None:
        show_line(
            f"wear         {found.full_writes} full writes, about {found.wear_percent} % of what "
            "a cheap stick stands"
        )
    show_line(f"saves        {found.commits}")
    show_line(f"errors       {found.errors}, the filesystem noted {_or_unknown(found)}")
    when = describe_moment(found.last_scrub) if found.last_scrub else "never"
    show_line(f"last scrub   {when}, {len(found.damaged)} damaged")
    for name in found.damaged:
        show_line(f"  damaged: {name}")
    for failure in found.failures:
        show_line(f"  failure: {describe_failure(failure)}")
    if found.as_of:
        show_line(f"as of {describe_moment(found.as_of)}")


def _or_unknown(found: health.Health) -> str:
    return "unknown" if found.filesystem_errors is None else str(found.filesystem_errors)


@click.command("usage")
@click.option("--count", default=15, show_default=True, help="How many directories.")
@JSON
def usage_command(count: int, as_json: bool) -> None:
    """Show what takes the room for changes: what has grown since boot, by directory.

    Who is not root sees what is in directories that others can read, and how much there is beside.

    \b
    Examples:
      ramos usage             the largest directories
      ramos usage --json      for programs
    """
    places = find_places()
    session = read_session(places)
    if is_partial := is_needed(places):
        measured = usage.measure_visible(places, session)
    else:
        measured = usage.measure_upper(places.upper_dir, session.moment_ns / 1e9 if session else 0)
    found = usage.pick_telling(measured, count)
    unseen = usage.measure_unseen(places, measured) if is_partial else 0
    if as_json:
        shown = [asdict(directory) for directory in found]
        print_json({"directories": shown, "partial": is_partial, "unseen_bytes": unseen})
        return
    show_line("since boot  since the last save     files  directory")
    for d in found:
        total, unsaved = format_size(d.total_bytes), format_size(d.unsaved_bytes)
        show_line(f"{total:>10}  {unsaved:>19}  {d.files:8}  {d.path}")
    if unseen:
        rest = "more: directories of others, deleted files, the file system"
        show_line(f"{format_size(unseen):>10}  {rest}")
