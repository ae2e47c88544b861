"""Choosing a disk and asking for it to be overwritten: `ramos image disks`, `ramos image write`.

Owns: the list of disks, the typed confirmation, and what is said at the end. Refuses: a disk with
any reason against it, and an answer that is not exactly the disk's name.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from ramos import booted, layout
from ramos.cli import JSON, print_json, show_line
from ramos.cli.prompt import read_line
from ramos.cli.screen import Screen
from ramos.errors import RefusedError, UsageError
from ramos.image import write
from ramos.image.provision import Written, provision
from ramos.image.steps import Steps
from ramos.linux import run
from ramos.sizes import format_size
from ramos.stick import disks
from ramos.stick.disks import Disk

DEVICE_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--allow-fixed", is_flag=True, help="Accept a disk that is not removable; asks twice."
    ),
    click.option(
        "--confirm",
        "confirmed",
        multiple=True,
        help="With --batch: the disk's name, as it would be typed; for a fixed disk also its"
        " serial (or the word fixed).",
    ),
)


def add_device_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every writer to a device has."""
    for option in reversed(DEVICE_OPTIONS):
        command = option(command)
    return command


def list_disks() -> tuple[tuple[Disk, ...], str]:
    """All disks of this machine, and the text they were read from."""
    text = run.run(disks.LSBLK).text
    return disks.parse_disks(text), text


def list_offered(*, allow_fixed: bool = False) -> list[Disk]:
    """The disks that may be written to."""
    found, _ = list_disks()
    uuid = read_running_uuid()
    return [
        disk
        for disk in found
        if not disks.list_refusals(disk, allow_fixed=allow_fixed, running_uuid=uuid)
    ]


def read_running_uuid() -> str:
    """The persist of the stick that this system runs from; empty anywhere else."""
    try:
        text = layout.BOOT_FILE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return booted.parse_boot(text).persist_uuid


def choose_disk(path: str, *, allow_fixed: bool, needed_bytes: int = 0) -> Disk:
    """The disk with this path, if there is no reason against it."""
    found, text = list_disks()
    real = str(Path(path).resolve())
    if real != path and Path(path).exists():
        raise UsageError(
            "cannot use",
            path,
            f"it is a link to {real}",
            hint=f"Name the disk itself: {real}.",
        )
    disk = disks.find_disk(found, path, text)
    reasons = disks.list_refusals(
        disk,
        allow_fixed=allow_fixed,
        needed_bytes=needed_bytes,
        running_uuid=read_running_uuid(),
    )
    if reasons:
        raise RefusedError(
            "cannot use",
            f"{path} ({disk.title})",
            "; ".join(reasons),
            hint="`ramos image disks` lists the disks that can be used.",
        )
    return disk


@contextlib.contextmanager
def hold_disk(disk: Disk, confirmed: tuple[str, ...], *, batch: bool) -> Iterator[write.HeldDisk]:
    """Hold the disk open from before the question until the block ends."""
    with write.hold_target(disk) as target:
        confirm_disk(disk, confirmed, batch=batch)
        write.check_identity(target)
        yield target


def list_confirmations(disk: Disk) -> list[str]:
    """The words that have to be typed before a disk is overwritten."""
    return [disk.name] if disk.removable else [disk.name, disk.serial or "fixed"]


def check_confirmation(disk: Disk, confirmed: tuple[str, ...], *, batch: bool) -> None:
    """Where nobody is asked, the words have to be there already."""
    wanted = list_confirmations(disk)
    if (batch or confirmed) and list(confirmed) != wanted:
        words = " ".join(f"--confirm {word}" for word in wanted)
        raise _unconfirmed(disk, "it was not confirmed", f"Give {words} to overwrite it.")


def confirm_disk(disk: Disk, confirmed: tuple[str, ...], *, batch: bool) -> None:
    """The user types what is to be overwritten; anything else ends it."""
    check_confirmation(disk, confirmed, batch=batch)
    if batch or confirmed:
        return
    show_line("", err=True)
    show_line("Everything on this disk will be lost:", err=True)
    show_line(f"  {disks.describe(disk)}", err=True)
    for word in list_confirmations(disk):
        if word != disk.name:
            show_line("This is a FIXED disk, part of this machine.", err=True)
        typed = read_line(f"Type {word} to overwrite it")
        if typed != word:
            raise _unconfirmed(disk, f"{typed!r} was typed, not {word!r}", "")


def _unconfirmed(disk: Disk, reason: str, hint: str) -> UsageError:
    return UsageError("cannot write", disk.path, reason, hint=hint)


@click.command("disks")
@click.option("--all", "show_all", is_flag=True, help="Also those that are refused, and why.")
@JSON
def disks_command(show_all: bool, as_json: bool) -> None:
    """List the disks that a stick can be written to.

    \b
    Example:
      ramos image disks --all
    """
    uuid = read_running_uuid()
    rows = [
        (disk, disks.list_refusals(disk, allow_fixed=False, running_uuid=uuid))
        for disk in list_disks()[0]
    ]
    shown = [row for row in rows if show_all or not row[1]]
    if as_json:
        print_json({"disks": [{**vars(disk), "refused": why} for disk, why in shown]})
        return
    for disk, reasons in shown:
        show_line(disks.describe(disk))
        if reasons:
            show_line(f"  no: {'; '.join(reasons)}")
    if not shown:
        show_line("no removable disk that is free: plug in a stick, or see --all")


@click.command("write")
@click.argument("image", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--device", "path", required=True, help="The whole disk to overwrite.")
@add_device_options
@click.option("--batch", is_flag=True, help="Ask nothing; --confirm says what is meant.")
@JSON
def write_command(image: Path, path: str, batch: bool, as_json: bool, **options: Any) -> None:
    """Write an image to a stick, read it back, and let persist fill the stick.

    The disk is pinned while you are asked and until the last byte. It is refused when it is
    mounted, in use, fixed, too small, or when it claims more space than it has.

    \b
    Examples:
      ramos image write stick.img --device /dev/sdb
      ramos image write stick.img --device /dev/sdb --batch --confirm sdb
    """
    size = image.stat().st_size
    disk = choose_disk(path, allow_fixed=options["allow_fixed"], needed_bytes=size)
    with hold_disk(disk, options["confirmed"], batch=batch) as target:
        written = provision(target, image, Steps(Screen(verbose=False).show))
    show_written(written, as_json)


def show_written(written: Written, as_json: bool) -> None:
    """What is on the stick, and what to do with it."""
    if as_json:
        print_json(vars(written))
        return
    show_line(f"{written.device}: written and read back, sha256 {written.sha256}")
    size = format_size(written.persist_bytes)
    if written.grown:
        show_line(f"persist has {size}.")
    else:
        show_line(f"persist has a partition of {size}; `ramos grow` on the stick fills it.")
    show_line("Boot from it: plug it in, switch the machine on, and open its boot menu")
    show_line("(usually F12, F11, F9, F8 or Esc; on a Mac hold Option).")
