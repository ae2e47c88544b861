"""`ramos image build`, which is also ./build-image.sh: options in, a plan out, and what is shown.

Owns: the options of the builder, the bar and the last words. Refuses: the building.
"""

import contextlib
import signal
import time
import types
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from typing import Any, get_args

import click

from ramos.cli import (
    JSON,
    HelpfulGroup,
    describe_error,
    print_json,
    root,
    show_error,
    show_line,
    wizard,
)
from ramos.cli.provision import (
    add_device_options,
    disks_command,
    hold_disk,
    show_written,
    write_command,
)
from ramos.cli.request import (
    Request,
    complete_plan,
    default_cache,
    find_refusals,
    read_request,
)
from ramos.cli.screen import Screen
from ramos.image import build, plan, provision, rootless
from ramos.image.build import Built
from ramos.image.cache import empty_cache, list_kept
from ramos.image.plan import Flag, Plan
from ramos.image.provision import Written
from ramos.image.steps import Steps
from ramos.progress import Progress
from ramos.sizes import format_size
from ramos.vm import accelerator

PATH = click.Path(path_type=Path)

# What is no part of the plan: how it is built, and where from or to besides.
MORE_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--device", "path", help="Write this whole disk instead of an image file."),
    click.option("--password-file", type=PATH, help="A file with the user's password; else none."),
    click.option(
        "--passphrase-file", type=PATH, help="For --encrypt: a file; else it is asked for twice."
    ),
    click.option("--batch", is_flag=True, help="Ask nothing: options and defaults decide."),
    click.option("--plan", "plan_only", is_flag=True, help="Print what would be done, and end."),
    click.option("--try", "try_it", is_flag=True, help="Boot the image in this terminal."),
    click.option(
        "--accel",
        type=click.Choice(accelerator.ACCELS),
        default="auto",
        show_default=True,
        help="For --try: KVM, software emulation (tcg), or KVM as long as it works (auto).",
    ),
    click.option("--verbose", is_flag=True, help="Show what the programs print."),
    JSON,
)


def make_option(item: Field[Any]) -> Callable[[Any], Any]:
    """The option of a field of the plan."""
    flag: Flag = item.metadata["flag"]
    words: dict[str, Any] = {"help": flag.help}
    if flag.shown:
        words["help"] += f"  [default: {flag.shown}]"
    if isinstance(item.default, bool):
        words["is_flag"] = True
    elif isinstance(item.default, tuple) and flag.shown:
        words["multiple"] = True
    elif Path in (item.type, *get_args(item.type)):
        words["type"] = PATH
    else:
        words["default"] = flag.text or item.default or None
        words["show_default"] = bool(words["default"])
    if flag.choices:
        words["type"] = click.Choice(flag.choices)
    if flag.limits:
        words["type"] = click.IntRange(*flag.limits)
    return click.option(f"--{flag.name or item.name}", item.name, **words)


OPTIONS = (*map(make_option, plan.list_choices()), *MORE_OPTIONS)


def add_options(command: Callable[..., None]) -> Callable[..., None]:
    """All options of the builder."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.group(cls=HelpfulGroup)
def image() -> None:
    """Images of RAMOS: the files that a stick is made from."""


image.add_command(disks_command)
image.add_command(write_command)


@image.command("build")
@add_options
@add_device_options
@click.pass_context
def build_command(context: click.Context, /, **options: Any) -> None:
    """Build a bootable stick image, or write a stick. On a terminal it asks what to do.

    \b
    Examples:
      ramos image build --try
      ramos image build --batch --base debian --profile minimal --output stick.img
      ramos image build --encrypt --device /dev/sdb
      ramos image build --plan --device /dev/sdb
      SOURCE_DATE_EPOCH=1763700000 ramos image build --batch --output same.img
    """
    signal.signal(signal.SIGTERM, _interrupt)
    rootless.become_root()
    screen = Screen(options["verbose"])
    if wizard.is_wanted(options):
        options = dict(wizard.ask_options(context, options))
    request = read_request(options)
    screen.show(Progress(request.why, ended=True))
    if options["plan_only"]:
        show_plan(context, request)
        return
    for refusal in find_refusals(request, only_quick=True):
        raise refusal.error
    with contextlib.ExitStack() as stack:
        chosen, target = complete_plan(request), None
        if request.disk:
            held = hold_disk(request.disk, options["confirmed"], batch=options["batch"])
            target = stack.enter_context(held)
            stack.callback(chosen.output.unlink, missing_ok=True)
        chosen, built = _build(chosen, options, screen)
        written = provision.provision(target, built.output, Steps(screen.show)) if target else None
    show_outcome(chosen, built, written, options["as_json"])
    if options["try_it"]:
        words = ["vm", "run", "--accel", options["accel"], str(built.output)]
        root.main(words, standalone_mode=False)


def _build(chosen: Plan, options: dict[str, Any], screen: Screen) -> tuple[Plan, Built]:
    """As planned; only what `auto` has chosen may give way."""
    if options["base"] != "auto":
        return chosen, build.build_image(chosen, screen.show)
    return build.build_or_fall_back(chosen, options["init"] or "", screen.show)


def show_plan(context: click.Context, request: Request) -> None:
    """What would be done, without doing it, and all that stands against it."""
    steps = [*build.STEPS, *(provision.STEPS if request.disk else ())]
    refusals = [refusal.error for refusal in find_refusals(request)]
    if request.options["as_json"]:
        parts = {"plan": plan.describe_plan(request.plan), "steps": steps}
        disk = vars(request.disk) if request.disk else None
        print_json({**parts, "disk": disk, "refused": [*map(describe_error, refusals)]})
    else:
        for name, value in wizard.describe_request(request).items():
            show_line(f"{name:<14} {value}")
        show_line(f"{'steps':<14} {', '.join(steps)}")
    for error in refusals:
        show_error(error)
    if refusals:
        context.exit(refusals[0].exit_code)


def show_outcome(chosen: Plan, built: Built, written: Written | None, as_json: bool) -> None:
    """What came out, for people or for machines."""
    if as_json:
        on_disk = vars(written) if written else None
        print_json({**vars(built), "plan": plan.describe_plan(chosen), "written": on_disk})
        return
    show_result(chosen, built, written)


def _interrupt(_number: int, _frame: types.FrameType | None) -> None:
    """To be told to end is the same as Ctrl-C: everything is cleaned up."""
    raise KeyboardInterrupt


@image.command("cache")
@click.option("--cache", type=PATH, help="Another folder than the usual one.")
@click.option("--prune", is_flag=True, help="Delete all of it; the next build fetches it anew.")
@JSON
def cache_command(cache: Path | None, prune: bool, as_json: bool) -> None:
    """Show what is kept between builds: packages, root trees, images.

    \b
    Examples:
      ramos image cache
      ramos image cache --prune
    """
    rootless.become_root()
    folder = cache or default_cache()
    kept = list_kept(folder)
    total = sum(entry.size_bytes for entry in kept)
    if prune:
        empty_cache(folder, Steps(Screen(verbose=False).show))
    if as_json:
        entries = [vars(entry) for entry in kept]
        print_json({"cache": folder, "bytes": total, "entries": entries, "pruned": prune})
        return
    for entry in () if prune else kept:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used_at))
        show_line(f"{format_size(entry.size_bytes):>10}  {used}  {entry.kind:<9}  {entry.path}")
    words = "were deleted from" if prune else "are kept in"
    show_line(f"{format_size(total)} {words} {folder}")


def show_result(chosen: Plan, built: Built, written: Written | None) -> None:
    """What was made, who can log in, and what to do next."""
    total = sum(built.seconds.values())
    sizes = f"{format_size(built.size_bytes)}, {format_size(built.used_bytes)} of it used"
    name = written.device if written else built.output
    show_line(f"{name}: {sizes}, Linux {built.kernel}, built in {total:.0f} s")
    tool = "doas" if chosen.base == "alpine" else "sudo"
    if chosen.password_hash:
        show_line(
            f"Log in as {chosen.user} with your password; root is locked, {tool} asks for it."
        )
    else:
        show_line(
            f"Log in as {chosen.user}: there is no password, at the console only;"
            f" root is locked, {tool} is allowed."
        )
    if written:
        show_written(written, as_json=False)
    else:
        show_line(f"Try it: ramos vm run {built.output}")
        show_line(f"Put it on a stick: ramos image write {built.output} --device /dev/sdX")
