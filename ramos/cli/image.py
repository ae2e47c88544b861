"""`ramos image build`, which is also ./build-image.sh: options in, a plan out, and what is shown.

Owns: the options of the builder, the bar and the last words. Refuses: the building.
"""

import contextlib
import os
import signal
import types
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from typing import Any, get_args

import click

from ramos.cli import JSON, HelpfulGroup, print_json, root, show_line, wizard
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
from ramos.image import build, plan, provision, rootless
from ramos.image.build import Built
from ramos.image.plan import Flag, Plan
from ramos.image.provision import Written
from ramos.image.steps import Steps
from ramos.linux import run
from ramos.progress import Progress
from ramos.sizes import format_size
from ramos.stick import disks
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
    if not options["plan_only"]:
        rootless.become_root()
    screen = Screen(options["verbose"])
    asked = wizard.is_wanted(options)
    if asked:
        options = wizard.ask_options(context, options)
    disk = _choose_target(options)
    chosen = make_plan(options, screen, disk)
    if options["plan_only"]:
        show_plan(chosen, disk, options["as_json"])
        return
    with contextlib.ExitStack() as stack:
        target = None
        if disk:
            held = hold_disk(disk, options["confirmed"], batch=options["batch"])
            target = stack.enter_context(held)
            stack.callback(chosen.output.unlink, missing_ok=True)
        elif asked:
            wizard.confirm_summary(plan.summarize_plan(chosen))
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


def _choose_target(options: dict[str, Any]) -> Disk | None:
    """The disk to write to, if one was named."""
    if not options["path"]:
        return None
    if options["output"]:
        raise UsageError("cannot use", "--output", "--device says where the image goes")
    return choose_disk(options["path"], allow_fixed=options["allow_fixed"])


def show_plan(chosen: Plan, disk: Disk | None, as_json: bool) -> None:
    """What would be done, without doing it."""
    steps = [*build.STEPS, *(provision.STEPS if disk else ())]
    if as_json:
        described = vars(disk) if disk else None
        print_json({"plan": plan.describe_plan(chosen), "disk": described, "steps": steps})
        return
    rows = plan.summarize_plan(chosen)
    if disk:
        rows["overwrites"] = disks.describe(disk)
    for name, value in rows.items():
        show_line(f"{name:<14} {value}")
    show_line(f"{'steps':<14} {', '.join(steps)}")


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


def make_plan(options: dict[str, Any], screen: Screen, disk: Disk | None) -> Plan:
    """The plan that the options ask for."""
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
    chosen, why = build.choose_base(chosen)
    screen.show(Progress(why, ended=True))
    return chosen


def default_cache() -> Path:
    """Where builds keep what the next one can use."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "ramos"


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
