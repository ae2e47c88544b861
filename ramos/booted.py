"""How this system was started: what init left in /run/ramos/boot.

Owns: reading that file. Refuses: judging it. Invariant: what is missing or is no number has its
default, so that a newer or an older init is understood as far as it goes.
"""

from dataclasses import dataclass
from enum import StrEnum

from ramos.errors import RamosError
from ramos.layout import Places

# What is text in the file, and has the same name here.
WORDS = ("kernel", "persist", "persist_uuid", "esp_uuid", "luks_uuid", "proof_end", "upper")


class Mode(StrEnum):
    """The modes of a boot; the menu, the initramfs and RAMOS name them alike."""

    DEFAULT = "default"
    BACKUP = "backup"
    CLEAN = "clean"


class ToRam(StrEnum):
    """When the images are copied to RAM: by init, once the system runs, or never."""

    NOW = "now"
    LATER = "later"
    NO = "no"


@dataclass(frozen=True)
class Boot:
    """How this system was started.

    `mode` is what it became, `asked_mode` what the menu asked for: where no generation could be
    read, a boot ends in clean mode unasked.
    """

    mode: Mode = Mode.DEFAULT
    asked_mode: Mode = Mode.DEFAULT
    generation: int = 0
    kernel: str = ""
    persist: str = ""
    persist_uuid: str = ""
    esp_uuid: str = ""
    luks: bool = False
    luks_uuid: str = ""
    # The kernel's count of disks when it saw this one, 0 where it does not count.
    disk_sequence: int = 0
    # The generation that init has read last, and the checksum at its end.
    proof_number: int = 0
    proof_end: str = ""
    upper: str = ""
    upper_bytes: int = 0
    restore: str = "none"
    # What was asked for, and what it became: init knows how much RAM there is.
    asked_toram: ToRam = ToRam.NO
    toram: ToRam = ToRam.NO
    trial: bool = False
    skipped: tuple[str, ...] = ()
    # Everything else that init told.
    warnings: tuple[str, ...] = ()


def parse_boot(text: str) -> Boot:
    """Read KEY=value lines; what is missing or is no number gets its default."""
    pairs = [line.partition("=") for line in text.splitlines()]
    values = {key: value for key, _, value in pairs if key not in ("skipped", "warning")}
    words = {key: values.get(key, "") for key in WORDS}
    mode = values.get("mode", Mode.DEFAULT)
    return Boot(
        mode=_mode(mode),
        asked_mode=_mode(values.get("asked_mode", mode)),
        generation=_number(values.get("generation", "")),
        luks=values.get("luks") == "1",
        disk_sequence=_number(values.get("disk_sequence", "")),
        proof_number=_number(values.get("proof_number", "")),
        upper_bytes=_number(values.get("upper_bytes", "")),
        restore=values.get("restore", "none"),
        asked_toram=_to_ram(values.get("asked_toram", "")),
        toram=_to_ram(values.get("toram", "")),
        trial=values.get("trial") == "1",
        skipped=tuple(value for key, _, value in pairs if key == "skipped"),
        warnings=tuple(value for key, _, value in pairs if key == "warning"),
        **words,
    )


def _mode(text: str) -> Mode:
    """A mode that nobody knows is as clean mode: nothing is saved by accident."""
    return Mode(text) if text in list(Mode) else Mode.CLEAN


def _to_ram(text: str) -> ToRam:
    return ToRam(text) if text in list(ToRam) else ToRam.NO


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def read_boot(places: Places) -> Boot:
    """What init left for this boot."""
    try:
        return parse_boot(places.boot_file.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        reason = "init of RAMOS left no such file"
        hint = "Saving works on a system that RAMOS started; 'ramos vm run' starts one."
        raise RamosError(
            "cannot tell how this system started", places.boot_file, reason, hint=hint
        ) from None
