"""`ramos image build`, which is also ./build-image.sh: options in, a plan out, and what is shown.

Owns: the options of the builder, the bar and the last words. Refuses: the building.
"""

import os
import re
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ramos import luks, run
from ramos.cli import print_json, root
from ramos.cli.key import ask_new_passphrase
from ramos.errors import UsageError
from ramos.image import build, plan
from ramos.image.build import Built
from ramos.image.plan import Plan, format_size
from ramos.image.progress import Event

PERCENT = re.compile(r"\b(\d{1,3})(?:\.\d+)?%")
BAR_WIDTH = 24
DEFAULT_OUTPUT = Path("ramos.img")
PATH = click.Path(path_type=Path)

OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--base",
        type=click.Choice(["auto", "alpine", "debian"]),
        default="auto",
        show_default=True,
        help="What the system is made of; auto: Alpine where its mirror answers, else Debian.",
    ),
    click.option("--release", default="", help="The base's release, such as bookworm or 3.23."),
    click.option(
        "--profile",
        type=click.Choice(plan.PROFILES),
        default=plan.PROFILES[0],
        show_default=True,
        help="rescue: tools for data recovery and file systems; minimal: what boots.",
    ),
    click.option(
        "--init",
        type=click.Choice(plan.INITS),
        default="",
        help="The init system of a Debian image, systemd by default (Alpine's is OpenRC).",
    ),
    click.option(
        "--kernel",
        type=click.Choice(plan.KERNELS),
        default="lts",
        show_default=True,
        help="Alpine's kernel: lts for real machines, virt for virtual ones.",
    ),
    click.option("--packages", default="", help="More packages, separated by commas."),
    click.option(
        "--firmware",
        type=click.Choice(plan.FIRMWARE_CHOICES),
        help="Firmware for devices; default: common with rescue, none with minimal.",
    ),
    click.option("--output", type=PATH, help=f"The image file.  [default: {DEFAULT_OUTPUT}]"),
    click.option("--size", default="", help="Its size, such as 4G; default: what it needs."),
    click.option(
        "--swap", default="64M", show_default=True, help="The swapfile on persist; 0: none."
    ),
    click.option("--user", default="user", show_default=True, help="The name of the user."),
    click.option("--password-file", type=PATH, help="A file with the user's password; else none."),
    click.option("--hostname", default="ramos", show_default=True, help="The machine's name."),
    click.option("--timezone", default="UTC", show_default=True, help="Such as Europe/Berlin."),
    click.option("--keymap", default="us", show_default=True, help="The keyboard: us, de, fr."),
    click.option(
        "--console",
        "consoles",
        multiple=True,
        help="A kernel console, the last one is the main one; may be repeated."
        "  [default: ttyS0,115200 and tty0]",
    ),
    click.option("--mirror", default="", help="Fetch from this mirror (a URL or a directory)."),
    click.option("--keys", type=PATH, help="Trust these keys in place of the base's own."),
    click.option("--cache", type=PATH, help="Where downloads and parts are kept between builds."),
    click.option(
        "--level",
        type=click.IntRange(1, 22),
        default=3,
        show_default=True,
        help="The zstd level of the images: 19 takes minutes and saves a seventh.",
    ),
    click.option("--encrypt", is_flag=True, help="Keep persist inside LUKS2."),
    click.option(
        "--passphrase-file", type=PATH, help="For --encrypt: a file; else it is asked for twice."
    ),
    click.option(
        "--unlock-memory",
        type=click.IntRange(1, 4096),
        default=Plan.unlock_memory_mib,
        show_default=True,
        help="For --encrypt: MiB that unlocking takes; the weakest machine must have them.",
    ),
    click.option("--batch", is_flag=True, help="Ask nothing: options and defaults decide."),
    click.option("--try", "try_it", is_flag=True, help="Boot the image in this terminal."),
    click.option("--verbose", is_flag=True, help="Show what the programs print."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end."),
)


def add_options(command: Callable[..., None]) -> Callable[..., None]:
    """All options of the builder."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.group()
def image() -> None:
    """Images of RAMOS: the files that a stick is made from."""


@image.command("build")
@add_options
def build_command(**options: Any) -> None:
    """Build a bootable stick image.

    \b
    Examples:
      ramos image build --try
      ramos image build --batch --base debian --profile minimal --output stick.img
      SOURCE_DATE_EPOCH=1763700000 ramos image build --batch --output same.img
    """
    signal.signal(signal.SIGTERM, _interrupt)
    screen = Screen(options["verbose"])
    chosen = make_plan(options, screen)
    built = build.build_image(chosen, screen.show)
    if options["as_json"]:
        print_json({**vars(built), "plan": plan.describe_plan(chosen)})
    else:
        show_result(chosen, built)
    if options["try_it"]:
        root.main(["vm", "run", str(built.output)], standalone_mode=False)


def _interrupt(_number: int, _frame: types.FrameType | None) -> None:
    """To be told to end is the same as Ctrl-C: everything is cleaned up."""
    raise KeyboardInterrupt


def make_plan(options: dict[str, Any], screen: "Screen") -> Plan:
    """The plan that the options ask for."""
    epoch = read_epoch(os.environ.get("SOURCE_DATE_EPOCH", ""))
    chosen = Plan(
        base=options["base"],
        output=(options["output"] or DEFAULT_OUTPUT).absolute(),
        cache=(options["cache"] or default_cache()).absolute(),
        release=options["release"],
        profile=options["profile"],
        init=options["init"] or "",
        kernel=options["kernel"],
        packages=tuple(word for word in re.split(r"[,\s]+", options["packages"]) if word),
        firmware=options["firmware"] or "",
        mirror=options["mirror"],
        keys=options["keys"] and options["keys"].absolute(),
        user=options["user"],
        password_hash=hash_password(options["password_file"], epoch),
        hostname=options["hostname"],
        timezone=options["timezone"],
        keymap=options["keymap"],
        consoles=tuple(options["consoles"]) or Plan.consoles,
        size_bytes=plan.parse_size(options["size"]) if options["size"] else 0,
        encrypt=options["encrypt"],
        passphrase=choose_passphrase(options),
        unlock_memory_mib=options["unlock_memory"],
        swap_bytes=plan.align(plan.parse_size(options["swap"]), plan.MIB),
        compression_level=options["level"],
        epoch=epoch,
    )
    chosen, why = build.choose_base(chosen)
    screen.show(Event("note", why))
    return chosen


def choose_passphrase(options: dict[str, Any]) -> bytes:
    """The passphrase of an encrypted stick: from a file, else typed twice."""
    file: Path | None = options["passphrase_file"]
    if not options["encrypt"]:
        if file:
            raise UsageError("cannot use", "--passphrase-file", "there is no --encrypt")
        return b""
    if file:
        return luks.read_passphrase_file(file)
    if options["batch"] or not sys.stdin.isatty():
        raise UsageError(
            "cannot encrypt", "--encrypt", "nobody can be asked for a passphrase",
            "Nothing was built", "Give --passphrase-file FILE.",
        )  # fmt: skip
    return ask_new_passphrase()


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


def hash_password(path: Path | None, epoch: int | None) -> str:
    """The password in a file, hashed as /etc/shadow wants it; empty without a file."""
    if path is None:
        return ""
    try:
        password = path.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise UsageError("cannot read password", path, error.strerror or error) from error
    if not password or b"\n" in password or b"\0" in password:
        raise UsageError("cannot use password", path, "it must hold one line of text")
    # A build that is to be the same each time needs the same salt each time.
    salt = [] if epoch is None else ["-salt", f"ramos{epoch}"]
    done = run.run(["openssl", "passwd", "-6", *salt, "-stdin"], stdin=password + b"\n")
    return done.text


class Screen:
    """Shows events on standard error: a bar on a terminal, a line a step elsewhere."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose
        self.live = sys.stderr.isatty() and not verbose
        self.step = ""

    def show(self, event: Event) -> None:
        """One event."""
        if event.kind == "step":
            self.step = event.text
            self._draw("")
        elif event.kind == "line":
            self._show_line(event.text)
        elif event.kind == "done":
            self._print(f"  {event.text:<22} {event.seconds:7.1f} s")
        elif event.kind == "reused":
            self._print(f"  {event.text:<22}  reused")
        else:
            self._print(event.text)

    def _show_line(self, line: str) -> None:
        if self.verbose:
            click.echo(line, err=True)
            return
        percent = PERCENT.search(line)
        if percent:
            filled = int(percent[1]) * BAR_WIDTH // 100
            self._draw(f"[{'#' * filled:<{BAR_WIDTH}}] {percent[1]:>3} %")
        elif line.startswith("I: "):
            self._draw(line[3:60])

    def _draw(self, text: str) -> None:
        if self.live:
            click.echo(f"\r\033[K  {self.step:<22} {text}", nl=False, err=True)

    def _print(self, text: str) -> None:
        click.echo(f"\r\033[K{text}" if self.live else text, err=True)


def show_result(chosen: Plan, built: Built) -> None:
    """What was made, who can log in, and what to do next."""
    total = sum(built.seconds.values())
    sizes = f"{format_size(built.size_bytes)}, {format_size(built.used_bytes)} of it used"
    click.echo(f"{built.output}: {sizes}, Linux {built.kernel}, in {total:.0f} s")
    if chosen.password_hash:
        click.echo(f"Log in as {chosen.user} with your password; root is locked, sudo asks for it.")
    else:
        click.echo(
            f"Log in as {chosen.user}: there is no password, at the console only;"
            " root is locked, sudo is allowed."
        )
    click.echo(f"Try it: ramos vm run {built.output}")
