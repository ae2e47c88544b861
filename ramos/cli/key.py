"""`ramos key` and `ramos grow`: the encryption and the size of persist on a running stick.

Owns: asking for passphrases and finding the device meant. Refuses: passphrases as arguments.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import click

from ramos import layout
from ramos.cli import JSON, HelpfulGroup, print_json, show_line
from ramos.cli.passphrase import ask_new_passphrase
from ramos.cli.prompt import encode_secret, read_secret
from ramos.errors import RefusedError
from ramos.linux.run import run
from ramos.sizes import format_count, format_size
from ramos.stick import disks, grow, luks

DEVICE = click.option(
    "--device", type=click.Path(path_type=Path), help="The LUKS partition or file; else this stick."
)
PASSPHRASE_FILE = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="A file with a passphrase that opens it now; else it is asked for.",
)
NEW_FILE = click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path),
    help="A file with the new passphrase; else it is asked for twice.",
)
MEMORY = click.option(
    "--unlock-memory",
    type=click.IntRange(1, 4096),
    default=luks.DEFAULT_MEMORY_MIB,
    show_default=True,
    help="MiB that opening takes: the weakest machine must have them.",
)


def take_new_key(command: Callable[[Path, bytes, bytes, int], str]) -> Callable[..., None]:
    """The options of a command that sets a passphrase; the device and secrets are found first.

    It says what it did.
    """

    @DEVICE
    @PASSPHRASE_FILE
    @NEW_FILE
    @MEMORY
    @JSON
    @functools.wraps(command)
    def wrapped(
        device: Path | None,
        passphrase_file: Path | None,
        new_passphrase_file: Path | None,
        unlock_memory: int,
        as_json: bool,
    ) -> None:
        target = _find_device(device)
        current = _read_current(passphrase_file)
        said = command(target, current, _read_new(new_passphrase_file), unlock_memory)
        _show_keys(target, said, as_json)

    return wrapped


@click.group(cls=HelpfulGroup)
def key() -> None:
    """The passphrases that open an encrypted stick."""


@key.command("list")
@DEVICE
@JSON
def list_keys(device: Path | None, as_json: bool) -> None:
    """List the keys of the stick.

    \b
    Example:
      ramos key list
    """
    slots = luks.list_keys(_find_device(device))
    if as_json:
        print_json({"keys": [vars(slot) for slot in slots]})
        return
    for slot in slots:
        show_line(f"key {slot.number}  {slot.derivation}  {format_size(slot.memory_kib << 10)}")


@key.command("add")
@take_new_key
def add(target: Path, current: bytes, new: bytes, memory: int) -> str:
    """Let a second passphrase open the stick.

    \b
    Example:
      ramos key add
    """
    luks.add_key(target, current, new, memory)
    return f"{format_count(len(luks.list_keys(target)), 'key')} open it now"


@key.command("change")
@take_new_key
def change(target: Path, current: bytes, new: bytes, memory: int) -> str:
    """Replace a passphrase by another.

    \b
    Example:
      ramos key change
    """
    luks.change_key(target, current, new, memory)
    return "the passphrase was changed"


@key.command("remove")
@DEVICE
@PASSPHRASE_FILE
@JSON
def remove(device: Path | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Take a passphrase away (never the last one).

    \b
    Example:
      ramos key remove
    """
    target = _find_device(device)
    luks.remove_key(target, _read_current(passphrase_file, "Passphrase to remove"))
    left = len(luks.list_keys(target))
    _show_keys(target, f"the passphrase was removed, {left} left", as_json)


def _show_keys(target: Path, said: str, as_json: bool) -> None:
    if as_json:
        print_json({"device": target, "keys": len(luks.list_keys(target))})
    else:
        show_line(f"{target}: {said}")


@key.command("backup")
@DEVICE
@click.argument("output", type=click.Path(path_type=Path))
@JSON
def backup(device: Path | None, output: Path, as_json: bool) -> None:
    """Keep a copy of the LUKS header: without a header nothing can be opened.

    Keep the copy off the stick, and as safe as the stick: with a passphrase that was valid when
    it was made, it opens the stick even after that passphrase was changed.

    \b
    Example:
      ramos key backup /media/safe/stick-header
    """
    target = _find_device(device)
    luks.backup_header(target, output)
    if as_json:
        print_json({"device": target, "header": output})
        return
    show_line(f"{target}: header kept in {output}")


@click.command("grow")
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path), help="For an encrypted stick: a file."
)
@JSON
def grow_command(passphrase_file: Path | None, as_json: bool) -> None:
    """Make persist as large as the stick it is on, while the system runs.

    \b
    Example:
      ramos grow
    """
    mounted = disks.find_mounted(run(disks.LSBLK).text, str(layout.PERSIST_DIR))
    size = grow.grow_running(
        Path(mounted.device),
        Path(mounted.disk),
        mounted.disk_bytes,
        lambda: _read_current(passphrase_file),
    )
    if as_json:
        print_json({"device": mounted.device, "bytes": size})
        return
    show_line(f"{mounted.device}: persist now has {format_size(size)}")


def _read_new(file: Path | None) -> bytes:
    return luks.read_passphrase_file(file) if file else ask_new_passphrase()


def _read_current(file: Path | None, prompt: str = "Passphrase") -> bytes:
    if file:
        return luks.read_passphrase_file(file)
    return encode_secret(read_secret(prompt))


def _find_device(device: Path | None) -> Path:
    """The LUKS partition that is meant."""
    if device is None:
        mounted = disks.find_mounted(run(disks.LSBLK).text, str(layout.PERSIST_DIR))
        device = Path(mounted.partition)
    if not luks.is_encrypted(device):
        raise RefusedError("no keys", device, "it is not encrypted")
    return device
