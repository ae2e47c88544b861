"""`ramos image build`, which is also ./build-image.sh: options in, a plan out, and what is shown.

Owns: the options of the builder, the bar and the last words. Refuses: the building.
"""

import contextlib
import functools
import os
import signal
import time
import types
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from typing import Any, get_args

import click

from ramos.cli import JSON, HelpfulGroup, describe_error, print_json, root, show_line, wizard
from ramos.cli.passphrase import choose_passphrase
from ramos.cli.provision import (
    add_device_options,
    choose_disk,
    disks_command,
    hold_disk,
    show_written,
    write_command,
)
from ramos.cli.screen import Screen
from ramos.errors import UsageError
from ramos.image import bases, build, checks, plan, provision, rootless
from ramos.image.build import Built
from ramos.image.cache import empty_cache, list_kept
from ramos.image.checks import Refusal
from ramos.image.plan import Flag, NoImageError, Plan
from ramos.image.provision import Written
from ramos.image.steps import Steps
from ramos.linux import run
from ramos.progress import Progress
from ramos.sizes import format_size
from ramos.stick.disks import Disk
from ramos.vm import accelerator

DEVICE_IMAGE = "device.img"
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
      ramos image build --plan --batch --device /dev/sdb
      SOURCE_DATE_EPOCH=1763700000 ramos image build --batch --output same.img
    """
    signal.signal(signal.SIGTERM, _interrupt)
    rootless.become_root()
    screen = Screen(options["verbose"])
    if wizard.is_wanted(options):
        options = _ask(context, options)
    disk = _choose_target(options)
    chosen, why = make_plan(options, disk)
    screen.show(Progress(why, ended=True))
    if options["plan_only"]:
        show_plan(chosen, disk, options["as_json"])
        return
    with contextlib.ExitStack() as stack:
        target = None
        if disk:
            held = hold_disk(disk, options["confirmed"], batch=options["batch"])
            target = stack.enter_context(held)
            stack.callback(chosen.output.unlink, missing_ok=True)
        chosen, built = _build(chosen, options, screen)
        written = provision.provision(target, built.output, Steps(screen.show)) if target else None
    show_outcome(chosen, built, written, options["as_json"])
    if options["try_it"]:
        words = ["vm", "run", "--accel", options["accel"], str(built.output)]
        root.main(words, standalone_mode=False)


def _ask(context: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """The options, completed by what the user answers."""

    def find_refusals(answers: dict[str, Any]) -> list[Refusal]:
        try:
            return [*checks.find_refusals(make_plan(answers, _choose_target(answers))[0])]
        except NoImageError as error:
            return [Refusal("base", error)]  # no base has a mirror that answers

    def confirm(answers: dict[str, Any]) -> None:
        disk = _choose_target(answers)
        wizard.confirm_summary(wizard.describe_choices(make_plan(answers, disk)[0], disk))

    wizard.greet()
    return wizard.answer_all(wizard.list_questions(context), options, find_refusals, confirm)


def _build(chosen: Plan, options: dict[str, Any], screen: Screen) -> tuple[Plan, Built]:
    """As planned; only what `auto` has chosen may give way."""
    if options["base"] != "auto":
        return chosen, build.build_image(chosen, screen.show)
    return build.build_or_fall_back(chosen, options["init"] or "", screen.show)


def _choose_target(options: dict[str, Any]) -> Disk | None:
    """The disk to write to, if one was named."""
    if not options["path"]:
        return None
    if options["output"]:
        raise UsageError("cannot use", "--output", "--device says where the image goes")
    return choose_disk(options["path"], allow_fixed=options["allow_fixed"])


def show_plan(chosen: Plan, disk: Disk | None, as_json: bool) -> None:
    """What would be done, without doing it, and all that stands against it."""
    steps = [*build.STEPS, *(provision.STEPS if disk else ())]
    refusals = [refusal.error for refusal in checks.find_refusals(chosen)]
    if as_json:
        described = vars(disk) if disk else None
        told = [describe_error(error) for error in refusals]
        parts = {"plan": plan.describe_plan(chosen), "disk": described, "steps": steps}
        print_json({**parts, "refused": told})
    else:
        for name, value in wizard.describe_choices(chosen, disk).items():
            show_line(f"{name:<14} {value}")
        show_line(f"{'steps':<14} {', '.join(steps)}")
        for error in refusals[1:]:
            show_line(f"{'refused':<14} {error}")
    if refusals:
        raise refusals[0]


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


def make_plan(options: dict[str, Any], disk: Disk | None) -> tuple[Plan, str]:
    """The plan that the options ask for, and why its base is what it is."""
    epoch = read_epoch(os.environ.get("SOURCE_DATE_EPOCH", ""))
    values = {item.name: plan.read_choice(item, options[item.name]) for item in plan.list_choices()}
    values["cache"] = (options["cache"] or default_cache()).absolute()
    if disk:
        values["output"] = values["cache"] / DEVICE_IMAGE
    chosen = Plan(
        **values,
        password_hash=hash_password(read_password(options), epoch),
        passphrase=choose_passphrase(options),
        device_bytes=disk.size_bytes if disk else 0,
        epoch=epoch,
    )
    return settle_base(chosen)


@functools.cache
def settle_base(chosen: Plan) -> tuple[Plan, str]:
    """The base that `auto` means, and why; the mirrors are asked once, however often it is."""
    return bases.choose_base(chosen)


def default_cache() -> Path:
    """Where builds keep what the next one can use."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "ramos"


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


def read_epoch(text: str) -> int | None:
    """SOURCE_DATE_EPOCH: the time that everything in the image is to have."""
    if not text:
        return None
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise UsageError("bad SOURCE_DATE_EPOCH", repr(text), "it is a number of seconds")
    return int(text)


def read_password(options: dict[str, Any]) -> bytes:
    """The user's password: typed, or from a file; empty where there is none."""
    path: Path | None = options["password_file"]
    if path is None:
        typed: bytes = options.get("password", b"")
        return typed
    try:
        password = path.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise UsageError("cannot read password", path, error) from error
    if not password or b"\n" in password or b"\0" in password:
        raise UsageError("cannot use password", path, "it must hold one line of text")
    return password


def hash_password(password: bytes, epoch: int | None) -> str:
    """A password hashed as /etc/shadow wants it; empty where there is none."""
    if not password:
        return ""
    # A build that is to be the same each time needs the same salt each time.
    salt = [] if epoch is None else ["-salt", f"ramos{epoch}"]
    done = run.run(["openssl", "passwd", "-6", *salt, "-stdin"], stdin=password + b"\n")
    return done.text


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
