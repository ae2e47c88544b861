"""How the runtime is, for `ramos status`: memory, the copies in RAM, the links.

Owns: putting together what ramosd knows and what the kernel says. Refuses: writing. Invariant: it
works with ramosd dead.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramos.booted import Mode, ToRam, read_boot
from ramos.config import Config, SaveConfig, load_settings
from ramos.daemon import links, swap
from ramos.layout import Places
from ramos.sizes import KIB, format_size
from ramos.stick import toram, watch

STATE_FILE = "ramosd.json"
# Three of these stand in services/login/ramos.sh, too.
SWAPPED_WORDS = "not all. Memory is short, and the stick is swapped to; leave it in."
TORAM_WORDS = {
    "done": "everything. The stick can be pulled out; a save needs it back in.",
    "running": "your changes. The images are being copied; leave the stick in.",
    "waiting": "your changes. The images follow once a quarter of the RAM can stay free.",
    "failed": "your changes. The images could not be copied; leave the stick in.",
    "too large": "your changes. The programs are too large; leave the stick in.",
    "no": "your changes. Programs are read from the stick; leave it in.",
}


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
    # When it saves by itself, in words.
    saves: str = ""


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
        saves="" if read_boot(places).mode is Mode.CLEAN else describe_saves(config.save),
    )


def describe_saves(config: SaveConfig) -> str:
    """When the system saves by itself; empty for never."""
    words = [f"every {config.every}"] if config.every else []
    words += ["when the battery gets low"] * config.on_battery_low
    words += ["when the lid is closed"] * config.on_lid_close
    return ", ".join(words)


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
        *((("by itself", f"saves {status.saves}"),) if status.saves else ()),
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
