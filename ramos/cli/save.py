"""`ramos commit`, `status`, `rollback`, `pin`, `unpin`, `prune`, `compact`, `verify`.

Owns: how saving looks to the user. Refuses: any of the work.
"""

import contextlib
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ramos.booted import Mode
from ramos.cli import JSON, TREE_VARIABLE, print_json, show_line
from ramos.cli.screen import describe_moment, show_passing, show_step
from ramos.errors import EXIT_DAMAGED, RamosError
from ramos.layout import Places
from ramos.sizes import format_count, format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ramos.config import SaveConfig
    from ramos.save.commit import CommitReport
    from ramos.save.status import SaveState, Unsaved
    from ramos.store.generations import PruneReport


def find_places() -> Places:
    """The running system's places, or those of a tree that a test has laid out."""
    tree = os.environ.get(TREE_VARIABLE)
    return Places.below(Path(tree)) if tree else Places()


def load_config() -> "SaveConfig":
    """The [save] settings of this machine; what is wrong with them is said once."""
    from ramos.config import load_settings

    loaded = load_settings()
    for problem in loaded.problems:
        show_line(f"ramos: {problem}", err=True)
    return loaded.config.save


@click.command("commit")
@click.option("-m", "--message", default="", help="What this state is, for 'ramos log'.")
@click.option("--pin", is_flag=True, help="Never prune the new generation.")
@click.option("--full", is_flag=True, help="Write all changes of this boot as one layer.")
@click.option("--dry-run", is_flag=True, help="Say what would be saved; write nothing.")
@click.option("--from-clean", is_flag=True, help="Save a clean system as the new default.")
@click.option("--wait", default=0.0, help="Seconds to wait for another save to end.")
@click.option("--reason", default="user", hidden=True, help="Who saves, as one word.")
@click.option("--unasked", is_flag=True, hidden=True, help="Call off no rollback.")
@JSON
def commit_command(as_json: bool, wait: float, **options: Any) -> None:
    """Save what changed since the last save.

    Only the changes are written. They are read back from the stick before they count; until
    then, and if anything fails, the next boot shows the state before.

    \b
    Examples:
      ramos commit
      ramos commit -m "before the upgrade" --pin
      ramos commit --dry-run --json
    """
    from ramos.save.commit import CommitRequest, commit
    from ramos.save.status import describe_left_behind

    places = find_places()
    if warning := describe_left_behind(places):
        show_line(f"note: {warning}", err=True)
    live = places.root == Path("/")
    request = CommitRequest(config=load_config(), wait_seconds=wait, live=live, **options)
    try:
        report = commit(places, request, show_step)
    except RamosError as error:
        if not request.dry_run:
            from ramos.save.after import note_failure

            note_failure(places, "save", error)
        raise
    finally:
        show_passing()
    if as_json:
        print_json({**asdict(report), "dry_run": request.dry_run})
        return
    show_line(describe_commit(report, dry_run=request.dry_run))
    if report.pruned.generations:
        show_line(describe_pruned(report.pruned))
    for name in report.left_out:
        show_line(f"NOT SAVED: {name}")
    for note in report.notes:
        show_line(f"note: {note}")


def describe_mode(mode: Mode, asked: Mode) -> str:
    """The mode that runs, and the one that was asked for where it could not be had."""
    return str(mode) if mode is asked else f"{mode} ({asked} was asked for)"


def describe_commit(report: "CommitReport", *, dry_run: bool) -> str:
    """The summary line."""
    owners = f"yours {report.mine}, the system's {report.system}"
    if not (report.files or report.directories or report.whiteouts or report.generation):
        return "not saved" if report.notes else f"nothing to save: {owners}"
    what = format_count(report.files, "file")
    if report.directories:
        what += f", {format_count(report.directories, 'directory')}"
    if report.whiteouts:
        what += f", {format_count(report.whiteouts, 'deletion')}"
    what += f" ({format_size(report.changed_bytes)})"
    if dry_run:
        return f"would save {what}; {owners}"
    extra = "".join(
        f", {format_count(count, noun)} {text}"
        for count, noun, text in (
            (report.sockets_skipped, "socket", "skipped"),
            (report.times_clamped, "time", "clamped"),
            (report.entries_left_out, "entry", "not saved"),
        )
        if count
    )
    return (
        f"generation {report.generation}: {what}{extra}; "
        f"{format_size(report.written_bytes or report.layer_bytes)} written in "
        f"{report.seconds:.2f} s, pause {report.pause_seconds * 1000:.0f} ms"
    )


def describe_pruned(pruned: "PruneReport") -> str:
    """The generations that went, by number and message."""
    names = ", ".join(pruned.names) or "none"
    return f"pruned generations: {names}; {format_size(pruned.freed_bytes)} freed"


@click.command("status")
@JSON
def status_command(as_json: bool) -> None:
    """Show what runs, what is unsaved, and what room there is.

    \b
    Examples:
      ramos status
      ramos status --json
    """
    from ramos.daemon import status
    from ramos.save.status import publish_unsaved, read_state
    from ramos.store.failures import find_failures

    places, config = find_places(), load_config()
    state = read_state(places, config)
    if os.geteuid() == 0:
        publish_unsaved(places, state.unsaved)
    runtime = status.read_status(places)
    failures = [asdict(failure) for failure in find_failures(places)]
    if as_json:
        print_json({**asdict(state), "runtime": asdict(runtime), "errors": failures})
        return
    for name, text in [*_describe_state(state), *status.describe_status(runtime)]:
        show_line(f"{name:<12} {text}")
    for failure in failures:
        name = "past error" if failure["past"] else "error"
        show_line(f"{name:<12} {describe_failure(failure)}")


def describe_failure(failure: "Mapping[str, Any]") -> str:
    """When what failed, and why, where that may be told."""
    when = describe_moment(failure.get("time", 0))
    return f"{when}  {failure.get('what')}: {failure.get('error') or 'sudo ramos status says why'}"


def _describe_state(state: "SaveState") -> "list[tuple[str, str]]":
    lines = [("mode", describe_mode(state.mode, state.asked_mode))]
    running = f"generation {state.running}" if state.running else "no generation"
    if state.running != state.booted:
        running += f" (booted {state.booted or 'without one'})"
    lines.append(("running", running))
    chain = (
        f"generation {state.default}, {format_count(state.layers, 'layer')}"
        if state.default
        else "none yet"
    )
    lines.append(("default", chain + (f"; backup {state.backup}" if state.backup else "")))
    if state.left_behind:
        lines.append(("left behind", f"generation {state.left_behind}, by the next save"))
    if state.rollback:
        lines.append(("rollback", f"to generation {state.rollback} at the next boot"))
    lines += [("skipped", text) for text in state.skipped]
    lines += [("warning", text) for text in state.warnings]
    if (unsaved := state.unsaved) is not None:
        lines.append(("unsaved", _describe_unsaved(unsaved)))
        if known := state.all_unsaved:
            when = describe_moment(known.get("time", 0))
            lines.append(("in all", f"{_describe_counts(known)}, as of {when}"))
        lines += [("cannot save", text) for text in unsaved.left_out]
    for name, fill in (("upper", state.upper), ("persist", state.persist)):
        if fill is not None:
            total = format_size(fill.total_bytes)
            lines.append((name, f"{fill.percent} % of {total} used"))
    if state.stick != "ok":
        lines.append(("stick", state.stick))
    return lines + [("damaged", text) for text in state.damaged]


def _describe_unsaved(unsaved: "Unsaved") -> str:
    if not (unsaved.files or unsaved.directories or unsaved.whiteouts):
        return "nothing that you can see" if unsaved.partial else "nothing"
    counts = _describe_counts(asdict(unsaved))
    if unsaved.partial:
        return f"of what you can see {counts}"
    written = format_size(unsaved.estimated_bytes)
    return f"{counts}; a save writes about {written} in {unsaved.estimated_seconds:.1f} s"


def _describe_counts(known: "Mapping[str, Any]") -> str:
    mine, system, size = (known.get(key, 0) for key in ("mine", "system", "size_bytes"))
    return f"yours {mine}, the system's {system} ({format_size(size)})"


@click.command("rollback")
@click.argument("generation", required=False, type=int)
@JSON
def rollback_command(generation: int | None, as_json: bool) -> None:
    """Make an older generation the default of the next boot.

    Without a number: the backup. The layers are read and checked first. The running system stays
    as it is; what it has not saved is not saved at shutdown. 'ramos commit' calls it off.

    \b
    Examples:
      ramos rollback
      ramos rollback 41
    """
    from ramos.save.history import rollback

    places = find_places()
    try:
        made = rollback(places, generation, show_step)
    finally:
        show_passing()
    if as_json:
        print_json({"generation": made.number, "parent": made.parent, "message": made.message})
        return
    show_line(
        f"generation {made.number} is the default now: {made.message}. "
        "The running system is unchanged until you reboot, and is not saved at shutdown."
    )


@click.command("pin")
@click.argument("generation", type=int)
@JSON
def pin_command(generation: int, as_json: bool) -> None:
    """Never prune a generation.

    \b
    Example:
      ramos pin 42
    """
    from ramos.save.history import pin

    pin(find_places(), generation)
    _show_pin(generation, True, as_json)


@click.command("unpin")
@click.argument("generation", type=int)
@JSON
def unpin_command(generation: int, as_json: bool) -> None:
    """Let pruning have a generation again.

    \b
    Example:
      ramos unpin 42
    """
    from ramos.save.history import unpin

    unpin(find_places(), generation)
    _show_pin(generation, False, as_json)


def _show_pin(generation: int, pinned: bool, as_json: bool) -> None:
    if as_json:
        print_json({"generation": generation, "pinned": pinned})
    else:
        show_line(f"generation {generation} is {'pinned' if pinned else 'not pinned any more'}")


@click.command("prune")
@click.option("--keep", type=click.IntRange(2, 1000), help="How many of the newest are kept.")
@JSON
def prune_command(keep: int | None, as_json: bool) -> None:
    """Delete old generations and the layers that only they use.

    What stays: the newest saves and, as long as a quarter of persist is free, those with a message
    and the last ones of days and weeks (ramos.toml(5)). --keep leaves the newest alone. Never
    deleted: the default, its parent, pinned ones, and what this system was booted from.

    \b
    Examples:
      ramos prune
      ramos prune --keep 2
    """
    from ramos.save.history import prune_now

    config = load_config()
    if keep:
        config = replace(config, keep=keep, keep_named=0, keep_daily=0, keep_weekly=0)
    report = prune_now(find_places(), config)
    if as_json:
        print_json(asdict(report))
        return
    show_line(describe_pruned(report))


@click.command("compact")
@click.option("--all", "everything", is_flag=True, help="Merge all layers into one.")
@JSON
def compact_command(everything: bool, as_json: bool) -> None:
    """Merge layers of the default, so that the chain stays short.

    \b
    Examples:
      ramos compact
      ramos compact --all
    """
    from ramos.save.compact import compact

    places = find_places()
    with contextlib.ExitStack() as stack:
        stack.callback(show_passing)
        report = compact(places, load_config(), everything=everything, on_progress=show_step)
    if as_json:
        print_json(asdict(report))
        return
    if not report.generation:
        show_line(f"nothing to gain: {format_count(report.layers_before, 'layer')}")
        return
    show_line(
        f"generation {report.generation}: {format_count(report.layers_before, 'layer')} became "
        f"{report.layers_after}, {format_size(report.bytes_before)} became "
        f"{format_size(report.bytes_after)}, {report.seconds:.1f} s"
    )
    if report.pruned.generations:
        show_line(describe_pruned(report.pruned))


@click.command("verify")
@click.option("--all", "everything", is_flag=True, help="Every generation, not only the default.")
@JSON
def verify_command(everything: bool, as_json: bool) -> None:
    """Read what is saved from the stick and compare it with what was written.

    Exit status 3 if anything is damaged; its name is printed.

    \b
    Examples:
      ramos verify
      ramos verify --all
    """
    from ramos.save.history import verify

    try:
        report = verify(find_places(), everything=everything, on_progress=show_step)
    finally:
        show_passing()
    if as_json:
        print_json(asdict(report))
    else:
        for damage in report.damaged:
            show_line(f"damaged: {damage.path}: {damage.reason}", err=True)
        bad = len(report.damaged)
        read = f"{format_count(report.files, 'file')}, {format_size(report.size_bytes)} read"
        show_line(f"{read}: {'all good' if not bad else f'{bad} damaged'}")
    if report.damaged:
        sys.exit(EXIT_DAMAGED)
