"""`ramos log`, `show`, `diff`, `restore-file`, `export` and `import`: looking at what was saved.

Owns: how history looks to the user. Refuses: any of the work.
"""

import contextlib
import datetime
import os
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ramos.cli import JSON, print_json, run_again_as_root, show_line
from ramos.cli.save import (
    find_places,
    load_config,
)
from ramos.cli.screen import show_passing, show_step
from ramos.sizes import format_count, format_size

if TYPE_CHECKING:
    from ramos.save.diff import Change
    from ramos.store.generation import Generation

    # Each with whether the system made it by itself.
    Changes = Iterator[tuple[Change, bool]]

SIGNS = {"added": "+", "deleted": "-", "replaced": "!", "changed": "~", "too deep": "?"}
# Of what is written nobody but root knows whether it is new or changed.
SEEN_SIGNS = {"written": "*"}
WORDS = {"written": "new or changed"}


def show_time(seconds: int) -> str:
    """A moment, in local time; the number itself where no calendar reaches."""
    try:
        return f"{datetime.datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return str(seconds)


@click.command("log")
@JSON
def log_command(as_json: bool) -> None:
    """List the generations, newest first.

    \b
    Examples:
      ramos log
      ramos log --json
    """
    from ramos.save.status import list_history

    entries, damaged = list_history(find_places())
    if as_json:
        generations = [{**_describe(entry.generation), **entry.flags} for entry in entries]
        print_json({"generations": generations, "damaged": [asdict(d) for d in damaged]})
        return
    for entry in entries:
        generation = entry.generation
        marks = ",".join(name for name, is_set in entry.flags.items() if is_set)
        layers = format_count(len(generation.layers), "layer")
        size = format_size(sum(layer.size_bytes for layer in generation.layers))
        show_line(
            f"{generation.number:>6}  {show_time(generation.created)}  {generation.reason:<9} "
            f"{layers:<8} {size:>10}  {generation.message}"
            f"{f'  [{marks}]' if marks else ''}"
        )
    for damage in damaged:
        show_line(f"damaged: {damage.path}: {damage.reason}", err=True)


def _describe(generation: "Generation") -> dict[str, Any]:
    return {**asdict(generation), "files": [asdict(file) for file in generation.files]}


@click.command("show")
@click.argument("generation", required=False)
@JSON
def show_command(generation: str | None, as_json: bool) -> None:
    """Show what one generation consists of: a number, default, backup or running.

    \b
    Examples:
      ramos show 42
      ramos show backup --json
    """
    from ramos.save.history import resolve
    from ramos.store.seal import is_sealed

    places = find_places()
    found = resolve(places, generation)
    if as_json:
        print_json(_describe(found))
        return
    show_line(f"generation {found.number}, made {show_time(found.created)} by {found.reason}")
    show_line(f"parent     {found.parent or 'none'}")
    show_line(f"kernel     {found.kernel}")
    if found.message:
        show_line(f"message    {found.message}")
    for file in found.files:
        sealed = "sealed" if is_sealed(places.persist, file) else "not sealed"
        show_line(f"{file.kind:<10} {format_size(file.size_bytes):>10}  {sealed:<10}  {file.path}")


@click.command("diff")
@click.argument("words", nargs=-1)
@click.option("--stat", is_flag=True, help="Only count.")
@click.option("--all", "everything", is_flag=True, help="The system's own changes, too.")
@JSON
def diff_command(words: tuple[str, ...], stat: bool, everything: bool, as_json: bool) -> None:
    """Show what is not saved, or how generations differ.

    Up to two generations (a number, default, backup, running), then paths. With none, the running
    system against what it saved last; with one, against that one; with two, these two. Signs: +
    added, - deleted, ~ changed, ! replaced by something of another type, ? too deep in
    directories to be saved. What the system writes by itself (save.system) is only counted, unless
    a path or --all asks for it.

    Who is not root sees what he could see anyway, and without a generation: * new or changed since
    the last save. What was deleted root alone can tell.

    \b
    Examples:
      ramos diff
      ramos diff 41 /etc
      ramos diff 40 41 --stat
    """
    from ramos.save.diff import is_below, match_paths
    from ramos.save.visible import is_needed

    generations = [word for word in words if _is_generation(word)][:2]
    paths = match_paths([Path(word) for word in words[len(generations) :]])
    if generations:
        run_again_as_root()
    is_partial = is_needed(find_places())
    opened = _open_visible() if is_partial else _open_diff(generations)
    with contextlib.closing(opened) as changes:
        wanted = _tell_owners(change for change in changes if is_below(change.path, paths))
        if as_json:
            found = _count(wanted) if stat else {"changes": _describe_changes(wanted)}
            print_json({**found, "partial": is_partial})
            return
        if stat:
            _show_counts(wanted, SEEN_SIGNS if is_partial else SIGNS)
        else:
            _show_changes(wanted, everything=everything or bool(paths))
    if is_partial:
        show_line("deletions, and what others keep to themselves: 'sudo ramos diff'")


def _tell_owners(changes: "Iterator[Change]") -> "Changes":
    from ramos.config import compile_patterns

    is_systems = compile_patterns(load_config().system)
    for change in changes:
        within = change.kind == "directory" and is_systems(change.path + b"/")
        yield change, within or is_systems(change.path)


def _describe_changes(changes: "Changes") -> list[dict[str, Any]]:
    return [
        {**asdict(change), "path": os.fsdecode(change.path), "system": is_systems}
        for change, is_systems in changes
    ]


def _show_changes(changes: "Changes", *, everything: bool) -> None:
    hidden = 0
    for change, is_systems in changes:
        if everything or not is_systems:
            _show_change(change)
        else:
            hidden += 1
    if hidden:
        show_line(f"and the system's {hidden} (--all shows them)")


def _is_generation(word: str) -> bool:
    return word in ("default", "backup", "running") or (word.isascii() and word.isdigit())


def _open_diff(words: list[str]) -> "Generator[Change, None, None]":
    """The changes between what was asked for."""
    from ramos.config import compile_patterns
    from ramos.save.diff import Stacks, compare_views
    from ramos.save.history import resolve
    from ramos.save.status import read_booted, read_running

    places = find_places()
    is_excluded = compile_patterns(load_config().exclude)
    with Stacks(places) as stacks:
        if len(words) == 2:
            tops = [stacks.open_generation(resolve(places, word)) for word in words]
        else:
            saved = resolve(places, words[0]) if words else read_running(places)
            tops = [stacks.open_generation(saved), stacks.open_running(read_booted(places))]
        yield from compare_views(tops[0], tops[1], is_excluded)


def _open_visible() -> "Generator[Change, None, None]":
    """What is not saved, as far as somebody can see who is not root."""
    from ramos.config import compile_patterns
    from ramos.save.session import read_session
    from ramos.save.visible import find_times, list_written

    places = find_places()
    times = find_times(places, read_session(places))
    yield from list_written(places, times, compile_patterns(load_config().exclude))


def _show_change(change: "Change") -> None:
    name = os.fsdecode(change.path) + ("/" if change.kind == "directory" else "")
    details = f"  ({', '.join(change.details)})" if change.details else ""
    sizes = ""
    if change.what == "changed" and change.size_before != change.size_after:
        sizes = f"  {format_size(change.size_before)} to {format_size(change.size_after)}"
    sign = {**SIGNS, **SEEN_SIGNS}[change.what]
    show_line(f"{sign} /{name}{details}{sizes}", whole=True)


def _count(changes: "Changes") -> dict[str, int]:
    counts: Counter[str] = Counter()
    for change, is_systems in changes:
        counts["system" if is_systems else change.what] += 1
        counts["bytes"] += max(0, change.size_after if change.what != "deleted" else 0)
    return {key: counts[key] for key in (*SIGNS, *SEEN_SIGNS, "system", "bytes")}


def _show_counts(changes: "Changes", signs: Mapping[str, str]) -> None:
    counts = _count(changes)
    text = ", ".join(f"{counts[what]} {WORDS.get(what, what)}" for what in signs)
    systems = f"; the system's {counts['system']}" if counts["system"] else ""
    show_line(f"{text}{systems}; {format_size(counts['bytes'])} in what is new")


@click.command("restore-file")
@click.argument("generation")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--to", "target", type=click.Path(path_type=Path), help="Where to put it instead.")
@JSON
def restore_command(generation: str, path: Path, target: Path | None, as_json: bool) -> None:
    """Put a file or a directory back as a generation has it.

    What is there now is replaced; with --to it is left alone.

    \b
    Examples:
      ramos restore-file 41 /etc/fstab
      ramos restore-file backup /home/user/notes --to /tmp/notes
    """
    from ramos.save.exchange import restore_file
    from ramos.save.history import resolve

    places = find_places()
    found = resolve(places, generation)
    goal = target or places.root / str(path).lstrip("/")
    count = restore_file(places, found, os.fsencode(path), goal)
    if as_json:
        print_json({"path": goal, "generation": found.number, "entries": count})
        return
    show_line(f"restored {goal} from generation {found.number}: {format_count(count, 'entry')}")


@click.command("export")
@click.argument("generation")
@click.argument("file", type=click.Path(path_type=Path))
@JSON
def export_command(generation: str, file: Path, as_json: bool) -> None:
    """Write a generation's changes as one plain squashfs image.

    ACLs, which squashfs cannot hold, go to FILE.acl beside it.

    \b
    Example:
      ramos export 42 /media/backup/upperfs.squashfs
    """
    from ramos.save.exchange import export
    from ramos.save.history import resolve

    places = find_places()
    try:
        found = resolve(places, generation)
        size = export(places, found, file, load_config(), show_step)
    finally:
        show_passing()
    if as_json:
        print_json({"file": file, "generation": found.number, "size_bytes": size})
        return
    show_line(f"wrote {file}: {format_size(size)}")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--add", is_flag=True, help="On top of the default's layers, not in their place.")
@JSON
def import_command(file: Path, add: bool, as_json: bool) -> None:
    """Make a squashfs image of saved changes the newest generation.

    The running system is unchanged until you reboot, and is not saved at shutdown.

    \b
    Examples:
      ramos import /media/backup/upperfs.squashfs
      ramos import --add /media/backup/ramos-20260101-120000.squashfs
    """
    from ramos.save.exchange import import_image

    places = find_places()
    try:
        made = import_image(places, file, load_config(), add=add, on_progress=show_step)
    finally:
        show_passing()
    if as_json:
        print_json({"generation": made.number, "parent": made.parent, "message": made.message})
        return
    show_line(
        f"generation {made.number} is the default now: {made.message}. "
        "The running system is unchanged until you reboot."
    )
