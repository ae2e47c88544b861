"""The `ramos` command: the only place that prints and that decides exit codes.

Owns: the top-level command, how lines and errors are shown, and which module holds which command.
Refuses: doing any of the work itself. Invariants: no traceback reaches a user, but for bugs and
--debug; what is shown is escaped, once, here.

Command modules are loaded only when their command runs: a stick's processor is slow, and
`ramos commit` need not pay for the image builder.
"""

import contextlib
import difflib
import importlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ramos import layout
from ramos.cli.screen import fold_line, read_columns
from ramos.errors import EXIT_ERROR, EXIT_INTERRUPTED, RamosError, RefusedError, escape
from ramos.layout import Places

# The form of what --json prints: higher after a change that a program would notice.
SCHEMA = 1
JSON_ASKED = "ramos.json"
ERROR_KEYS = ("what", "obj", "reason", "state", "hint", "exit_code")
EPILOG_HINT = "Run 'ramos COMMAND --help' for examples."
# command name -> "module:attribute"
COMMANDS: dict[str, str] = {
    "boot": "ramos.cli.runtime:boot",
    "commit": "ramos.cli.save:commit_command",
    "compact": "ramos.cli.save:compact_command",
    "diff": "ramos.cli.history:diff_command",
    "export": "ramos.cli.history:export_command",
    "import": "ramos.cli.history:import_command",
    "log": "ramos.cli.history:log_command",
    "pin": "ramos.cli.save:pin_command",
    "prune": "ramos.cli.save:prune_command",
    "restore-file": "ramos.cli.history:restore_command",
    "rollback": "ramos.cli.save:rollback_command",
    "show": "ramos.cli.history:show_command",
    "status": "ramos.cli.save:status_command",
    "unpin": "ramos.cli.save:unpin_command",
    "verify": "ramos.cli.save:verify_command",
    "boot-acls": "ramos.cli.runtime:boot_acls",
    "completion": "ramos.cli.completion:completion_command",
    "config": "ramos.cli.runtime:config_command",
    "eject": "ramos.cli.runtime:eject",
    "health": "ramos.cli.health:health_command",
    "reconnect": "ramos.cli.runtime:reconnect",
    "usage": "ramos.cli.health:usage_command",
    "grow": "ramos.cli.key:grow_command",
    "image": "ramos.cli.image:image",
    "key": "ramos.cli.key:key",
    "shutdown-save": "ramos.cli.runtime:shutdown_save",
    "pkg": "ramos.cli.packages:pkg",
    "vm": "ramos.cli.vm:vm_group",
}
# What changes the running system is for root; these everybody may, and who is not root sees what he
# may see.
FOR_EVERYONE = frozenset(
    (*("completion", "config", "image", "vm"), *("diff", "health", "log", "status", "usage"))
)
# A shell sets it to ask what the next word can be.
COMPLETION_VARIABLE = "_RAMOS_COMPLETE"
# A directory that stands in for the running system; for tests.
TREE_VARIABLE = "RAMOS_TREE"
# Not the caller's own: it may name any program sudo.
SAFE_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
OURSELVES = Path("/usr/bin/ramos")


@contextlib.contextmanager
def _errors_as_json(ctx: click.Context) -> Iterator[None]:
    """Whoever asked for JSON gets an error as JSON, too."""
    try:
        yield
    except (RamosError, click.ClickException, click.Abort, KeyboardInterrupt) as error:
        # An option that nobody knows ends the parsing before --json is reached.
        if ctx.meta.get(JSON_ASKED, "--json" in sys.argv):
            print_json({"error": describe_error(error)})
        raise


class HelpfulGroup(click.Group):
    """A group that knows what somebody meant who typed another word."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it; an unknown word is told with those that look like it."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx))
            told = error.format_message()  # a newer click does the same
            if not near or "Did you mean" in told:
                raise
            raise click.UsageError(f"{told} Did you mean {' or '.join(near)}?", ctx) from error


class LazyGroup(HelpfulGroup):
    """A group whose commands are imported when they are named."""

    def __init__(self, *args: object, targets: Mapping[str, str], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.targets = dict(targets)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(self.targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        target = self.targets.get(cmd_name)
        if target is None:
            return None
        module, attribute = target.split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it; what needs root is started again as root."""
        name, command, rest = super().resolve_command(ctx, args)
        only_asks = {"-h", "--help"} & set(rest) or ctx.resilient_parsing
        if name in COMMANDS and name not in FOR_EVERYONE and not only_asks:
            run_again_as_root()
        return name, command, rest

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it; an error is told as those of the commands are."""
        with _errors_as_json(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does it; an error is told as JSON, too, to whoever asked for that."""
        with _errors_as_json(ctx):
            return super().invoke(ctx)


def run_again_as_root() -> None:
    """Through sudo or doas, whichever the system has; on another machine nothing happens.

    A command calls it that needs root for a part alone.
    """
    if os.geteuid() == 0 or TREE_VARIABLE in os.environ or not Places().boot_file.exists():
        return
    for name in ("sudo", "doas"):
        if program := shutil.which(name, path=SAFE_PATH):
            os.execv(program, [name, "--", str(OURSELVES), *sys.argv[1:]])
    words = shlex.join(["ramos", *sys.argv[1:]])
    reason = "it takes root, and there is neither sudo nor doas"
    raise RefusedError("cannot run", words, reason, hint=f"su -c {shlex.quote(words)}")


@click.command(
    cls=LazyGroup,
    targets=COMMANDS,
    epilog=EPILOG_HINT,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(layout.VERSION, prog_name="ramos")
@click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
def root(debug: bool) -> None:
    """RAMOS: a system that lives in RAM, and keeps what you changed safe on a USB stick."""
    if debug:
        os.environ["RAMOS_DEBUG"] = "1"


def _note_json(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    context.meta[JSON_ASKED] = value
    return value


JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_note_json,
    help="Print one JSON object, for programs.",
)


def print_json(value: Mapping[str, object]) -> None:
    """One JSON object on standard output, with the number of its form; an error adds no second."""
    if (context := click.get_current_context(silent=True)) is not None:
        context.meta[JSON_ASKED] = False
    click.echo(json.dumps({"schema": SCHEMA, **value}, indent=2, default=str))


def describe_error(error: BaseException) -> dict[str, object]:
    """An error for programs; the keys are always the same."""
    if isinstance(error, RamosError):
        values = (error.what, error.obj, error.reason, error.state, error.hint, error.exit_code)
    elif isinstance(error, click.ClickException):
        values = ("bad usage", "", error.format_message(), "", "", error.exit_code)
    else:
        values = ("interrupted", "", "by the user", "", "", EXIT_INTERRUPTED)
    return dict(zip(ERROR_KEYS, values, strict=True))


def show_line(text: str, *, err: bool = False, nl: bool = True, whole: bool = False) -> None:
    """One line for people; whatever a name in it holds, it stays one line and nothing else.

    Only on a terminal it is folded to fit, unless it is to be taken over as a whole.
    """
    shown, stream = escape(text), sys.stderr if err else sys.stdout
    if nl and not whole and stream.isatty():
        shown = fold_line(shown, read_columns())
    click.echo(shown, err=err, nl=nl)


def show_title(text: str) -> None:
    """The title of the terminal's window: it stays when lines go."""
    if sys.stdout.isatty():
        click.echo(f"\033]2;{escape(text)}\a", nl=False)


def show_error(error: RamosError) -> None:
    """What failed, and what to do about it, on standard error."""
    show_line(f"ramos: {error}", err=True)
    if error.hint:
        show_line(f"  hint: {error.hint}", err=True)


def main() -> None:
    """Entry point: run, and turn what went wrong into a message and an exit code."""
    try:
        # An Exit inside a command comes back as a value here.
        status = root(standalone_mode=False, prog_name="ramos")
        if isinstance(status, int):
            sys.exit(status)
    except RamosError as error:
        if os.environ.get("RAMOS_DEBUG"):
            raise
        show_error(error)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        vars(error)["message"] = "\n".join(map(escape, error.message.split("\n")))
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        if sys.stderr.isatty():
            click.echo(err=True)  # the terminal shows ^C where the cursor was
        show_line("ramos: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
