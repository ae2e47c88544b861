"""How the stick and the runtime are: numbers that others show.

Owns: putting together the ledger, the kernel's counters and what ramosd knows. Refuses: writing.
Invariants: every number has a source; what cannot be known is None; it works with ramosd dead.
"""

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramos import layout
from ramos.booted import ToRam, read_boot
from ramos.config import Config, load_settings
from ramos.daemon import links, swap
from ramos.layout import Places
from ramos.linux.mounts import find_mount
from ramos.sizes import KIB, format_size
from ramos.stick import identity, toram, watch
from ramos.store import records

STATE_FILE = "ramosd.json"
SECTOR_BYTES = 512
DAY_SECONDS = 86400
# Two sticks that were worn out on purpose died after 632 and 959 full writes.
FULL_WRITES_OF_A_STICK = 600
EXT4_SETTINGS = Path("/sys/fs/ext4")
SHOWN_FAILURES = 5
SWAPPED_WORDS = "not all: memory is short, and the stick is swapped to: leave it in"
TORAM_WORDS = {
    "done": "everything: the stick can be pulled out; a save needs it back in",
    "running": "the images are being copied: leave the stick in",
    "waiting": "not yet: the images are copied where a quarter of the RAM stays free",
    "failed": "your changes; the images could not be copied: leave the stick in",
    "too large": "your changes; the programs are too large for this RAM: leave the stick in",
    "no": "your changes; programs are read from the stick: leave it in",
}


@dataclass(frozen=True)
class Health:
    """The stick's life, and what is wrong."""

    bytes_written_boot: int
    bytes_written_total: int
    bytes_a_day: int | None
    capacity_bytes: int | None
    full_writes: float | None
    wear_percent: float | None
    boots: int
    commits: int
    errors: int
    filesystem_errors: int | None
    last_scrub: int
    damaged: tuple[str, ...]
    failures: tuple[dict[str, Any], ...]


def read_health(places: Places) -> Health:
    """What the ledger and the kernel say."""
    log = places.persist / layout.LOG_DIR
    written = watch.read_boot_bytes(places.persist)
    ledger = records.total_up(log, written, records.find_records(places))
    mount = find_mount(places.persist)
    source = Path(mount.source) if mount else Path()
    capacity = _read_capacity(identity.find_disk(source)) if mount else None
    full = ledger.bytes_written / capacity if capacity else None
    failures = [
        *records.read_records("failures", log),
        *records.read_records("failures", records.find_records(places)),
    ]
    return Health(
        bytes_written_boot=written,
        bytes_written_total=ledger.bytes_written,
        bytes_a_day=_average(ledger),
        capacity_bytes=capacity,
        full_writes=None if full is None else round(full, 3),
        wear_percent=None if full is None else round(100 * full / FULL_WRITES_OF_A_STICK, 2),
        boots=ledger.boots,
        commits=ledger.commits,
        errors=ledger.errors,
        filesystem_errors=_read_errors(source) if mount else None,
        last_scrub=ledger.last_scrub,
        damaged=ledger.damaged,
        failures=tuple(failures[-SHOWN_FAILURES:]),
    )


def _average(ledger: records.Ledger) -> int | None:
    """Bytes a day, once there is a day to speak of."""
    days = (time.time() - ledger.since) / DAY_SECONDS
    return int(ledger.bytes_written / days) if ledger.since and days >= 1 else None


def _read_capacity(disk: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        text = (identity.SYS_BLOCK / disk / "size").read_text(encoding="ascii")
        return int(text) * SECTOR_BYTES if disk else None
    return None


def _read_errors(source: Path) -> int | None:
    """How many errors ext4 has noted in its superblock."""
    with contextlib.suppress(OSError, ValueError):
        name = Path(os.path.realpath(source)).name
        return int((EXT4_SETTINGS / name / "errors_count").read_text(encoding="ascii"))
    return None


@dataclass(frozen=True)
class RuntimeStatus:
    """What the runtime knows of itself, for `ramos status`."""

    daemon: bool
    stick: str
    swapfile: str
    swap_used_kib: int
    available_percent: float
    upper_percent: float
    toram: str
    scrubbing: bool
    links: int
    conflicts: tuple[str, ...]
    warnings: tuple[str, ...]


def read_status(places: Places) -> RuntimeStatus:
    """How the runtime is, also where ramosd is not running."""
    config = load_settings().config
    known = _read_state(places.run / STATE_FILE)
    alive = _is_alive(known.get("pid"))
    swaps = swap.read_swaps()
    memory = swap.read_memory()
    there = watch.is_there(places.persist)
    stick = str(known.get("stick", "present")) if there and alive else ""
    stick = stick or ("present" if there else "gone")
    count, conflicts = _read_links(config, places)
    upper = round(swap.read_fill_percent(places.upper), 1)
    return RuntimeStatus(
        daemon=alive,
        stick=stick,
        swapfile="on" if str(swap.SWAPFILE) in swaps else "off",
        swap_used_kib=sum(swaps.values()),
        available_percent=round(memory.available_percent, 1),
        upper_percent=upper,
        toram=find_copies(places, known if alive else {}, config),
        scrubbing=alive and bool(known.get("scrubbing")),
        links=count,
        conflicts=conflicts,
        warnings=tuple(_list_warnings(alive, stick, upper, conflicts, config)),
    )


def describe_status(status: RuntimeStatus) -> list[tuple[str, str]]:
    """The same as lines for people: (name, text)."""
    used = status.swap_used_kib * KIB
    swapped = f"{format_size(used)} swapped" if used else "no swap used"
    memory = f"{status.available_percent:.0f} % available, {swapped}, swapfile {status.swapfile}"
    linked = f"{status.links} from {links.user_directory()}"
    return [
        ("memory", memory),
        ("in RAM", TORAM_WORDS[status.toram] if status.swapfile == "off" else SWAPPED_WORDS),
        ("links", linked),
        *(("warning", text) for text in status.warnings),
    ]


def _list_warnings(
    alive: bool, stick: str, upper: float, conflicts: tuple[str, ...], config: Config
) -> list[str]:
    found = []
    if not alive:
        found.append("ramosd does not run: memory, the stick and the links are not looked after")
    if stick == "gone":
        found.append("the stick is gone: nothing can be saved until the same one is back")
    if stick == "returning":
        found.append("the stick is back and is being checked")
    if upper >= min(config.memory.warn_percent, default=100):
        found.append(f"{upper:.0f} % of the room for changes is taken: see 'ramos usage'")
    for name in conflicts:
        found.append(f"{name!r} in the home is in the way of the one in {links.user_directory()}")
    return found


def _read_state(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}


def find_copies(places: Places, known: dict[str, Any], config: Config) -> str:
    """How far the images are on their way to RAM, in one word of TORAM_WORDS."""
    if toram.is_in_ram(places):
        return "done"
    boot = read_boot(places)
    if boot.asked_toram is not ToRam.NO and boot.toram is ToRam.NO:
        return "too large"
    word = str(known.get("toram", "no"))
    return "no" if word == "waiting" and config.memory.toram == ToRam.NO else word


def _is_alive(pid: object) -> bool:
    """Whether the process still is the daemon (numbers are used again)."""
    with contextlib.suppress(OSError):
        return b"ramosd" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _read_links(config: Config, places: Places) -> tuple[int, tuple[str, ...]]:
    owner = links.find_owner(config.links) if config.links.enabled else None
    if owner is None:
        return 0, ()
    folder = links.user_directory(places.persist)
    conflicts = links.find_conflicts(owner, folder)
    try:
        count = len(os.listdir(folder)) - len(conflicts)
    except OSError:
        count = 0
    return count, tuple(os.fsdecode(name) for name in conflicts)
