"""The commands about the running system: boot, health, usage, config; and those of the services.

Owns: how the state of the runtime is shown. Refuses: deciding (the modules below do). Invariant:
each of them works with ramosd dead.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from ramos import (
    bootacls,
    confirm,
    finalsave,
    settings,
    shutdown,
    stick,
    stickwatch,
    store,
    terminals,
)
from ramos.cli import print_json
from ramos.errors import RamosError
from ramos.places import Places

UPTIME = Path("/proc/uptime")


def read_uptime() -> float:
    """Seconds since the kernel started."""
    return float(UPTIME.read_text(encoding="ascii").split()[0])


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_context
def boot(context: click.Context, as_json: bool) -> None:
    """Show how this boot went and what the next one will try.

    \b
    Examples:
      ramos boot              mode, generation, what GRUB remembers, where the time went
      ramos boot --json       the same for programs
    """
    if context.invoked_subcommand is not None:
        return
    info = stick.read_boot(Places())
    attempts = confirm.read_attempts(info)
    if as_json:
        print_json({"boot": asdict(info), "attempts": asdict(attempts)})
        return
    click.echo(f"mode {info.mode}, generation {info.generation}, kernel {info.kernel}")


@boot.command("confirm")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def boot_confirm(as_json: bool) -> None:
    """Tell GRUB that what runs now works: one sector, written in place.

    \b
    Example:
      ramos boot confirm      run by a service once the system is up
    """
    places = Places()
    info = stick.read_boot(places)
    confirm.tell_last_shutdown(places)
    confirm.note_boot(info, read_uptime())
    attempts = confirm.confirm_boot(info, places.persist)
    if as_json:
        print_json(asdict(attempts))
        return
    env = attempts.env
    changed = "confirmed" if attempts.written else "nothing to confirm"
    click.echo(f"{changed}: kernel {env.good or 'none'}, generation {env.gen_good or 'none'}")


@click.command("boot-acls", hidden=True)
def boot_acls() -> None:
    """Put back the access control lists of the running generation (run by a service at boot)."""
    places = Places()
    info = stick.read_boot(places)
    if not info.generation:
        return
    count, problems = bootacls.restore_acls(
        store.read_generation(places.persist, info.generation), places
    )
    for problem in problems:
        click.echo(f"ramos: access control lists: {problem}", err=True)
    click.echo(f"{count} access control lists put back")
    if problems:
        sys.exit(1)


@click.command("shutdown-save", hidden=True)
def shutdown_save() -> None:
    """Save as the settings say and make persist read-only (run by a service at shutdown)."""
    places = Places()
    pulse, refine = finalsave.make_meter(places)
    screen = shutdown.Screen(terminals.list_consoles(), refine)
    loaded = settings.load_settings()
    for problem in loaded.problems:
        screen.say(f"settings: {problem}")
    info, config = stick.read_boot(places), loaded.config
    outcome = shutdown.save_at_shutdown(
        info,
        config.save,
        lambda on_progress: finalsave.save(places, config.save, on_progress),
        lambda target, on_progress: finalsave.save_to(places, config.save, target, on_progress),
        screen,
        pulse,
    )
    screen.say(outcome.text)
    if outcome.result not in ("clean", "off"):
        try:
            written = stickwatch.read_boot_bytes(places.persist)
            shutdown.leave_record(outcome, written, config.health.log_mib)
        except (OSError, RamosError) as error:
            screen.say(f"no record of this could be left on the stick: {error}")
    if reason := shutdown.seal_persist():
        screen.say(reason)
    if outcome.result == "failed":
        sys.exit(1)
