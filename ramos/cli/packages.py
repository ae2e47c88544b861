"""`ramos pkg add, upgrade, remove, list, check`: the commands that ask the engine.

Owns: options, progress and reports. Refuses: doing any of the work.
"""

import os
from collections.abc import Sequence
from dataclasses import replace

import click

from ramos.boot import confirm
from ramos.cli import JSON, print_json, show_line
from ramos.cli.recipes import pkg
from ramos.cli.screen import show_kept_step, show_passing
from ramos.errors import RefusedError
from ramos.layout import Places
from ramos.linux.fs import hold_lock
from ramos.packages import change, engine
from ramos.packages.change import Target
from ramos.packages.running import find_site, require_route
from ramos.packages.site import Site
from ramos.sizes import format_size

OFFLINE = click.option(
    "--offline", is_flag=True, help="Do not ask for a route first: the mirror is on this machine."
)
NAMES = click.argument("names", nargs=-1, metavar="[NAME...]")
ASK = click.option("--ask", is_flag=True, help="Show what would happen, and ask before it does.")
LOCK_NAME = "packages"


def _start(purpose: str) -> tuple[Site, "click.Context"]:
    context = click.get_current_context()
    site = find_site()
    context.with_resource(hold_lock(site.lock_file.with_name(LOCK_NAME), purpose))
    context.with_resource(engine.workplace(site))
    context.call_on_close(show_passing)
    return site, context


def _recover(site: Site, as_json: bool) -> list[str]:
    """Finish or undo what was interrupted, and say so."""
    recovery = change.recover(site)
    done = {"finished": recovery.finished, "undid": recovery.undone}
    lines = [f"{k} what was interrupted: {', '.join(names)}" for k, names in done.items() if names]
    for line in lines:
        show_line(line, err=as_json)
    return lines


def _show_report(report: engine.Report, as_json: bool) -> None:
    show_passing()
    if as_json:
        print_json(vars(report))
        return
    if not report.packages:
        show_line("nothing to do: no mirror has anything newer")
        return
    show_line(f"done: {', '.join(report.packages)}")
    for kernel in report.kernels:
        if kernel == report.trial:
            text = "is tried at the next boot; if it fails, the old one is back"
        else:
            text = "is below 'Older kernels' in the boot menu"
        show_line(f"kernel {kernel} {text}")
    for kernel in report.removed_kernels:
        show_line(f"kernel {kernel} was removed from the stick")
    if report.generation:
        show_line(f"generation {report.generation} names the new images")
    show_line("The list of installed packages is in RAM until you save: ramos commit")


@pkg.command("list")
@JSON
def list_command(as_json: bool) -> None:
    """List installed special packages, and the kernels on the stick.

    \b
    Example:
      ramos pkg list
    """
    site = find_site()
    rows = engine.list_special(site)
    found = engine.list_kernels(site)
    if as_json:
        names = ("name", "version", "recipe", "by_engine")
        values = [dict(zip(names, row, strict=True)) for row in rows]
        print_json({"packages": values, "kernels": [vars(kernel) for kernel in found]})
        return
    for name, version, recipe, by_engine in rows:
        show_line(f"{name} {version}  {recipe}{'' if by_engine else ', from the base image'}")
    for kernel in found:
        show_line(f"kernel {kernel.name}  {', '.join(kernel.words) or 'older'}")


@pkg.command("recover")
@click.option("--at-boot", is_flag=True, help="Tell the logins, too: a service runs it like this.")
@JSON
def recover_command(at_boot: bool, as_json: bool) -> None:
    """Finish or undo what a power cut interrupted.

    A service does so at boot; add, upgrade and remove do so first.

    \b
    Example:
      ramos pkg recover
    """
    site, _ = _start("pkg recover")
    lines = _recover(site, as_json)
    if at_boot:
        confirm.tell_logins(Places(), lines)
    if as_json:
        print_json({"done": lines})
    elif not lines and not at_boot:
        show_line("nothing was interrupted")


@pkg.command()
@NAMES
@OFFLINE
@JSON
def check(names: tuple[str, ...], offline: bool, as_json: bool) -> None:
    """Tell what is newer upstream: of all special packages, or of these. Nothing is installed.

    \b
    Examples:
      ramos pkg check
      ramos pkg check linux-image-amd64
    """
    site, _ = _start("pkg check")
    if not offline:
        require_route()
    engine.refresh(site, show_kept_step)
    newer = engine.find_newer(site, names)
    if as_json:
        print_json({"newer": [{"installed": n.installed, **vars(n.candidate)} for n in newer]})
        return
    _show_newer(newer)
    if not newer:
        what = f"up to date: {', '.join(names)}" if names else "every special package is up to date"
        show_line(what)


def _show_newer(newer: Sequence[Target], *, err: bool = False) -> None:
    show_passing()
    for item in newer:
        size = format_size(item.candidate.size_bytes)
        versions = f"{item.installed or '(new)'} -> {item.candidate.version}"
        show_line(f"{item.name} {versions}  {size}", err=err)


def _ask(question: str, *, err: bool) -> None:
    """Yes, or nothing happens. One line is read and no byte more: the caller may ask too."""
    show_line(f"{question} [Y/n] ", nl=False, err=err)
    answer = b""
    while not answer.endswith(b"\n") and (byte := os.read(0, 1)):
        answer += byte
    if not answer or answer.strip().lower() not in (b"", b"y", b"yes"):
        raise RefusedError("not done", "special packages", "nobody agreed")


@pkg.command()
@NAMES
@OFFLINE
@ASK
@JSON
def upgrade(names: tuple[str, ...], offline: bool, ask: bool, as_json: bool) -> None:
    """Bring every special package, or these, to the newest version.

    On Debian, 'apt upgrade' does this first, and then its own part.

    \b
    Examples:
      ramos pkg upgrade
      ramos pkg upgrade firmware-iwlwifi intel-microcode
    """
    site, _ = _start("pkg upgrade")
    _recover(site, as_json)
    if not offline:
        require_route()
    engine.refresh(site, show_kept_step)
    newer = engine.find_newer(site, names)
    if ask and newer:
        _show_newer(newer, err=as_json)
        _ask("Bring these special packages?", err=as_json)
    old = engine.collect_kernels(site, show_kept_step)
    report = engine.bring(site, newer, show_kept_step)
    if as_json:
        report = replace(report, removed_kernels=(*report.removed_kernels, *old))
    _show_report(report, as_json)
    if old and not as_json:
        show_line(f"removed old kernels: {', '.join(old)}")


@pkg.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@OFFLINE
@JSON
def add(names: tuple[str, ...], offline: bool, as_json: bool) -> None:
    """Install special packages: NAME, or NAME=VERSION.

    \b
    Examples:
      ramos pkg add firmware-iwlwifi
      ramos pkg add linux-image-6.1.0-28-amd64
    """
    site, _ = _start("pkg add")
    _recover(site, as_json)
    if not offline:
        require_route()
    engine.refresh(site, show_kept_step)
    _show_report(engine.add(site, names, show_kept_step), as_json)


@pkg.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@ASK
@click.option(
    "--also", multiple=True, metavar="NAME", help="An ordinary package that goes with them."
)
@JSON
def remove(names: tuple[str, ...], ask: bool, also: tuple[str, ...], as_json: bool) -> None:
    """Remove special packages, and what they had brought onto the stick.

    The last kernel, the running one and the one that is known to boot stay.

    \b
    Example:
      ramos pkg remove linux-image-6.1.0-28-amd64
    """
    site, _ = _start("pkg remove")
    _recover(site, as_json)
    if ask:
        going, _ = engine.plan_removal(site, names, also)
        _ask(f"Remove {', '.join(going)}, and what came with it onto the stick?", err=as_json)
    _show_report(engine.remove(site, names, show_kept_step, also), as_json)
