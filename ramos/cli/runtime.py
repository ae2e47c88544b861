"""The commands about the running system: boot, health, usage, config; and those of the services.

Owns: how the state of the runtime is shown. Refuses: deciding (the modules below do). Invariant:
each of them works with ramosd dead.
"""

import contextlib
import functools
import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from ramos.boot import bootchart, confirm
from ramos.booted import Boot, read_boot
from ramos.cli import JSON, print_json, show_line
from ramos.cli.prompt import encode_secret, read_secret
from ramos.cli.save import describe_mode, find_places
from ramos.cli.screen import show_passing, show_step
from ramos.config import load_settings
from ramos.daemon import swap
from ramos.errors import EXIT_ERROR, RamosError
from ramos.layers import bootacls
from ramos.layout import CONFIG_DIR, CONFIG_FILE, Places
from ramos.linux import syscalls, terminals
from ramos.save import status
from ramos.shutdown import deadline, finalsave, order, stranded
from ramos.sizes import format_count
from ramos.stick import health, toram, watch
from ramos.store import generations, seal

UPTIME = Path("/proc/uptime")
# For what is left after the save: unmounting, and the end.
END_SECONDS = 60.0


def read_uptime() -> float:
    """Seconds since the kernel started."""
    return float(UPTIME.read_text(encoding="ascii").split()[0])


@click.group(invoke_without_command=True)
@click.option("--svg", type=click.Path(path_type=Path), help="Draw where the time went.")
@JSON
@click.pass_context
def boot(context: click.Context, svg: Path | None, as_json: bool) -> None:
    """Show how this boot went and what the next one will try.

    \b
    Examples:
      ramos boot                  what runs, what GRUB remembers, the times
      ramos boot --svg boot.svg   the same as a chart
      ramos boot --json           the same for programs
    """
    if context.invoked_subcommand is not None:
        return
    info = read_boot(Places())
    rows = bootchart.list_rows()
    if svg is not None:
        title = f"RAMOS {info.mode}, generation {info.generation}, kernel {info.kernel}"
        svg.write_text(bootchart.draw_svg(rows, title), encoding="utf-8")
    attempts, problem = _read_attempts(info)
    if as_json:
        shown = asdict(attempts) if attempts else None
        base = asdict(seal.read_base_state(Places().persist, Places().run))
        listed = [asdict(row) for row in rows]
        print_json({"boot": asdict(info), "attempts": shown, "base": base, "rows": listed})
        return
    _show_boot(info, attempts, problem)
    for row in rows:
        length = row.end_seconds - row.start_seconds
        show_line(f"  {row.start_seconds:8.2f} s {length:7.2f} s  {row.part:9}{row.name}")


def _read_attempts(info: Boot) -> tuple[confirm.Attempts | None, str]:
    try:
        return confirm.read_attempts(info), ""
    except RamosError as error:
        return None, str(error)


def _show_boot(info: Boot, attempts: confirm.Attempts | None, problem: str) -> None:
    confirmed = attempts is not None and attempts.env.gen_good == info.generation
    trial = ", on trial" if info.trial and not confirmed else ""
    mode = describe_mode(info.mode, info.asked_mode)
    show_line(f"{mode}, generation {info.generation}{trial}, kernel {info.kernel}")
    show_line(f"changes on {info.upper}, layers by {info.restore}, toram {info.toram}")
    for skipped in info.skipped:
        show_line(f"skipped {skipped}")
    for warning in info.warnings:
        show_line(f"warning: {warning}")
    for line in seal.describe_base(seal.read_base_state(Places().persist, Places().run)):
        show_line(line)
    if attempts is None:
        show_line(problem)
        return
    env = attempts.env
    show_line(f"GRUB: good kernel {env.good or 'none'}, good generation {env.gen_good or 'none'}")
    boots = format_count(env.gen_tries, "more boot")
    show_line(f"      {boots} may try a generation that is not confirmed")
    if env.trial and env.tries:
        show_line(f"      kernel {env.trial} is on trial, {format_count(env.tries, 'try')} left")
    elif env.trial in attempts.kernels:
        show_line(f"      kernel {env.trial} was given up: it did not come up")
    show_line(f"      kernels on the ESP: {', '.join(attempts.kernels) or 'none'}")


@boot.command("confirm")
@JSON
def boot_confirm(as_json: bool) -> None:
    """Tell GRUB that what runs now works: one sector, written in place.

    \b
    Example:
      ramos boot confirm      run by a service once the system is up
    """
    places = Places()
    confirm.release_guard(places)
    info = read_boot(places)
    confirm.tell_last_shutdown(places)
    confirm.note_boot(info, read_uptime())
    publish_state(places)
    attempts = confirm.confirm_boot(info, places)
    if as_json:
        print_json(asdict(attempts))
        return
    env = attempts.env
    changed = "confirmed" if attempts.written else "nothing to confirm"
    show_line(f"{changed}: kernel {env.good or 'none'}, generation {env.gen_good or 'none'}")


def publish_state(places: Places) -> None:
    """What everybody may know, from the boot on; ramosd looks again, and so does a save."""
    with contextlib.suppress(OSError, RamosError):
        health.publish_health(places, health.read_health(places))
        state = status.read_state(places, load_settings().config.save)
        status.publish_unsaved(places, state.unsaved)


@click.command("boot-acls", hidden=True)
def boot_acls() -> None:
    """Put back the access control lists of the running generation (run by a service at boot)."""
    places = Places()
    info = read_boot(places)
    if not info.generation:
        return
    count, problems = bootacls.restore_acls(
        generations.read_generation(places.persist, info.generation), places
    )
    for problem in problems:
        show_line(f"ramos: access control lists: {problem}", err=True)
    show_line(f"{format_count(count, 'access control list')} put back")
    if problems:
        sys.exit(EXIT_ERROR)


@click.command("shutdown-save", hidden=True)
def shutdown_save() -> None:
    """Save as the settings say and make persist read-only (run by a service at shutdown)."""
    if stranded.was_settled():
        return
    deadline.cancel_deadline()
    syscalls.lock_memory()  # the stick may be pulled out during the save
    places = Places()
    pulse, estimate = finalsave.make_meter(places)
    consoles = order.Consoles(terminals.list_consoles(), estimate)
    loaded = load_settings()
    for problem in loaded.problems:
        consoles.say(f"settings: {problem}")
    info, config = read_boot(places), loaded.config
    if warning := finalsave.foretell(places, config.save):
        consoles.say(warning)
    outcome = order.save_at_shutdown(
        info,
        config.save,
        functools.partial(finalsave.save, places, config.save),
        functools.partial(finalsave.save_to, places, config.save),
        consoles,
        pulse,
    )
    consoles.say(outcome.text)
    stall = config.save.shutdown_stall_seconds
    if outcome.result == "saved":
        consoles.say("Saved. You may switch off.")
        merge = functools.partial(finalsave.merge, places, config.save)
        order.merge_when_saved(merge, consoles, stall, pulse)
    for problem in order.finish(outcome, config.health.log_mib, stall):
        consoles.say(problem)
    deadline.start_deadline(END_SECONDS)
    sys.exit(outcome.exit_code)


@click.command("config")
@JSON
def config_command(as_json: bool) -> None:
    """Print every setting, where it comes from, and what is wrong in the files.

    \b
    Examples:
      ramos config            after editing /etc/ramos/ramos.toml
      ramos config --json     for programs
    """
    root = find_places().root
    loaded = load_settings(*(root / p.relative_to("/") for p in (CONFIG_FILE, CONFIG_DIR)))
    if as_json:
        print_json({"settings": [asdict(s) for s in loaded.settings], "problems": loaded.problems})
    else:
        for setting in loaded.settings:
            show_line(f"{setting.key} = {render_value(setting.value)}  # {setting.source}")
    for problem in loaded.problems:
        show_line(f"ramos: {problem}", err=True)
    if loaded.problems:
        sys.exit(EXIT_ERROR)


def render_value(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(render_value(item) for item in value)}]"
    return json.dumps(value)


@click.command("eject")
@JSON
def eject(as_json: bool) -> None:
    """Let go of the stick, so that it can be pulled out.

    What the system still reads from it is copied to RAM first, where there is room. Nothing is
    saved: 'ramos commit' does that, before.

    \b
    Example:
      ramos commit && ramos eject
    """
    places = find_places()
    if not toram.is_in_ram(places):
        try:
            toram.move_to_ram(places, swap.has_room, show_step)
        finally:
            show_passing()
    watch.release_stick(places)
    if as_json:
        print_json({"ejected": True})
        return
    show_line("You may pull it out. To save, put it back in: what is not saved is in RAM alone.")


@click.command("reconnect")
@JSON
def reconnect(as_json: bool) -> None:
    """Use the stick again after it was pulled out, where ramosd could not do it alone.

    \b
    Example:
      ramos reconnect         asks for the passphrase of an encrypted stick
    """
    places = Places()
    info = read_boot(places)
    if watch.is_there(places.persist):
        _tell_reconnected(False, "The stick is there; nothing is to be done.", as_json)
        return
    known = watch.remember_stick(info)
    node = watch.find_returned(known) if known else None
    if node is None:
        raise RamosError(
            "cannot reconnect",
            "the stick",
            "the one this system was started from is not plugged in",
        )
    if info.luks:
        node = watch.unlock(node, encode_secret(read_secret("Passphrase")))
    told = watch.return_stick(
        node, lambda seen: show_line(f"  {seen.step} {seen.detail}", err=True)
    )
    _tell_reconnected(True, told, as_json)


def _tell_reconnected(done: bool, text: str, as_json: bool) -> None:
    if as_json:
        print_json({"reconnected": done, "text": text})
    else:
        show_line(text)
