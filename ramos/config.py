"""What the user can set: /etc/ramos/ramos.toml and the drop-ins beside it.

Owns: every key, its default, its meaning and its valid values. Refuses: writing. Invariant: a
broken file never stops anything: what cannot be read has its default, and is in the list of what
was wrong.
"""

import difflib
import fnmatch
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ramos import layout
from ramos.booted import ToRam
from ramos.errors import find_reason

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


TomlError = tomllib.TOMLDecodeError
DURATION = re.compile(r"([0-9]{1,6}) ?(min|h)", re.ASCII)
UNIT_SECONDS = {"min": 60, "h": 3600}
LONGEST_SECONDS = 7 * 24 * 3600


# Logs, package lists, seeds, clocks, leases, marks of timers; and what a first boot makes.
SYSTEM_PATHS = (
    *("var/log/*", "var/lib/apt/lists/*", "var/lib/apt/periodic/*"),
    *("var/lib/systemd/random-seed", "var/lib/systemd/timers/*", "var/lib/systemd/timesync/*"),
    *("var/lib/seedrng/*", "var/lib/urandom/*", "var/lib/misc/*", "var/lib/dhcp/*"),
    *("var/lib/ntp/*", "var/lib/logrotate/*", "var/lib/NetworkManager/*", "etc/adjtime"),
    *("var/lib/systemd/linger", "etc/machine-id", "var/lib/dbus/machine-id"),
    "home/*/.sudo_as_admin_successful",
)


def _key(
    default: Any,
    doc: str,
    low: int | None = None,
    high: int | None = None,
    words: tuple[str, ...] = (),
    duration: bool = False,
) -> Any:
    """A key with its default, its documentation, and its limits or the words that it may be."""
    limits = {"low": low, "high": high, "words": words, "duration": duration}
    return field(default=default, metadata={"doc": doc, **limits})


@dataclass(frozen=True)
class SaveConfig:
    """[save]: what is saved, and how much of the past is kept."""

    keep: int = _key(
        5,
        "How many saves are kept besides pinned ones; rollbacks and the like do not count.",
        2,
        1000,
    )
    keep_named: int = _key(10, "How many saves with a message are kept.", 0, 1000)
    keep_daily: int = _key(7, "Of how many days the last save is kept.", 0, 1000)
    keep_weekly: int = _key(4, "Of how many weeks the last save is kept.", 0, 1000)
    at_shutdown: bool = _key(True, "Save when the system goes down (never in clean mode).")
    every: str = _key("", "Save by itself after so long (30min, 2h); empty: never.", duration=True)
    on_battery_low: bool = _key(False, "Save by itself when the battery gets low.")
    on_lid_close: bool = _key(False, "Save by itself when the lid is closed.")
    shutdown_wait_seconds: int = _key(
        60, "How long a failed save at shutdown waits for an answer on the console.", 0, 3600
    )
    shutdown_stall_seconds: int = _key(
        300, "How long a save at shutdown may show no progress before it counts as failed.", 5, 3600
    )
    reserve_mib: int = _key(64, "Space on persist that a save never uses.", 0, 1 << 20)
    max_layers: int = _key(8, "The longest chain of layers before they are compacted.", 1, 60)
    wasted_percent: int = _key(
        50, "Compact when this share of the saved bytes is hidden by newer ones.", 1, 100
    )
    compression_level: int = _key(3, "The zstd level of a layer.", 1, 22)
    memory_mib: int = _key(96, "What the squashfs tools may use.", 32, 65536)
    exclude: tuple[str, ...] = _key(
        ("tmp/*", "var/tmp/*", "run/*", "var/cache/apt/*", "var/cache/apk/*", "var/cache/man/*"),
        "Paths (shell patterns, without the leading /) that are never saved.",
    )
    system: tuple[str, ...] = _key(
        SYSTEM_PATHS,
        "Paths that the system writes by itself: saved, counted apart, no reason for a save.",
    )


@dataclass(frozen=True)
class MemoryConfig:
    """[memory]: swap and the watch on the upper."""

    swappiness: int = _key(10, "vm.swappiness while only RAM is in play.", 0, 200)
    zram_swap: bool = _key(True, "Use compressed RAM as the first swap.")
    swapfile: bool = _key(True, "Use the swapfile on the stick when memory is nearly out.")
    swap_on_percent: int = _key(8, "Available memory below which the swapfile is used.", 1, 50)
    swap_off_percent: int = _key(25, "Available memory above which it is released again.", 2, 90)
    toram: str = _key(
        "later",
        "When the images are copied to RAM: a minute after the start (later), at once (now), no.",
        words=tuple(ToRam),
    )
    warn_percent: tuple[int, ...] = _key(
        (80, 90, 95), "Fill levels of the upper at which everyone logged in is warned."
    )


@dataclass(frozen=True)
class LinksConfig:
    """[links]: the user's own files."""

    enabled: bool = _key(True, "Link each entry of /persist/user into the home directory.")
    user: str = _key("", "Whose home; empty: the user with the lowest id from 1000 on.")


@dataclass(frozen=True)
class HealthConfig:
    """[health]: looking after the stick."""

    scrub_days: int = _key(30, "How often everything stored is read and compared.", 1, 3650)
    log_mib: int = _key(8, "The most that /persist/log may take.", 1, 1024)


@dataclass(frozen=True)
class Config:
    """All settings."""

    save: SaveConfig = SaveConfig()
    memory: MemoryConfig = MemoryConfig()
    links: LinksConfig = LinksConfig()
    health: HealthConfig = HealthConfig()


@dataclass(frozen=True)
class Setting:
    """One effective value and the file that it comes from."""

    key: str
    value: object
    source: str
    doc: str


@dataclass(frozen=True)
class Loaded:
    """A configuration, where each value comes from, and what was wrong on the way."""

    config: Config
    settings: tuple[Setting, ...]
    problems: tuple[str, ...]


def parse_duration(text: str) -> int | None:
    """The seconds of such as 30min or 2h; None for anything else, and for nothing."""
    match = DURATION.fullmatch(text)
    seconds = int(match[1]) * UNIT_SECONDS[match[2]] if match else 0
    return seconds if 0 < seconds <= LONGEST_SECONDS else None


def compile_patterns(patterns: Iterable[str]) -> Callable[[bytes], bool]:
    """A test for paths; a star does match a slash, as in `tmp/*`."""
    joined = "|".join(fnmatch.translate(pattern.strip("/")) for pattern in patterns)
    if not joined:
        return lambda _path: False
    match = re.compile(os.fsencode(joined), re.DOTALL).match
    return lambda path: match(path) is not None


def merge(texts: Iterable[tuple[str, str]]) -> Loaded:
    """Apply (file name, text) pairs in order, later ones over earlier ones."""
    config = Config()
    sources: dict[str, str] = {}
    problems: list[str] = []
    for name, text in texts:
        try:
            tables = tomllib.loads(text)
        except TomlError as error:
            problems.append(f"{name}: {error}; the whole file is ignored")
            continue
        for table, values in tables.items():
            config = _apply_table(config, table, values, (name, text), sources, problems)
    return Loaded(config, tuple(_list_settings(config, sources)), tuple(problems))


def _apply_table(
    config: Config,
    table: str,
    values: Any,
    origin: tuple[str, str],
    sources: dict[str, str],
    problems: list[str],
) -> Config:
    name, text = origin
    tables = [item.name for item in fields(config)]
    if table not in tables or not isinstance(values, dict):
        problems.append(
            f"{name}:{_find_line(text, table)}: no table [{table}]{_nearest(table, tables)}"
        )
        return config
    section = getattr(config, table)
    known = {item.name: item for item in fields(section)}
    for key, value in values.items():
        where = f"{name}:{_find_line(text, key, table)}"
        if key not in known:
            problems.append(f"{where}: no key {table}.{key}{_nearest(key, known)}")
            continue
        checked, problem = _check_value(value, known[key].default, known[key].metadata)
        if problem:
            problems.append(f"{where}: {table}.{key} {problem}; the default stays")
            continue
        section = replace(section, **{key: checked})
        sources[f"{table}.{key}"] = name
    return replace(config, **{table: section})


def _check_value(value: Any, default: Any, metadata: Any) -> tuple[Any, str]:
    """The value as the dataclass wants it, or what is wrong with it."""
    if isinstance(default, tuple):
        wanted = type(default[0])
        if not isinstance(value, list) or not all(type(item) is wanted for item in value):
            return None, f"must be a list of {wanted.__name__} values"
        return tuple(value), ""
    if type(value) is not type(default):
        return None, f"must be of type {type(default).__name__}, not {type(value).__name__}"
    low, high = metadata["low"], metadata["high"]
    if low is not None and not low <= value <= high:
        return None, f"must be from {low} to {high}, not {value}"
    if metadata["words"] and value not in metadata["words"]:
        return None, f"must be one of {', '.join(metadata['words'])}, not {value}"
    if metadata["duration"] and value and parse_duration(value) is None:
        return None, f"must be a time from 1min to 168h, such as 30min or 2h, not {value}"
    return value, ""


def _nearest(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(words), 1)
    return f"; did you mean {close[0]}?" if close else ""


def _find_line(text: str, key: str, table: str = "") -> int:
    """The line on which a key (or, without `table`, a table) stands."""
    inside = not table
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([\w.-]+)\s*\]", line)
        if header:
            inside = header[1] == table or (not table and header[1] == key)
            if not table and header[1] == key:
                return number
        elif inside and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line):
            return number
    return 1


def _list_settings(config: Config, sources: dict[str, str]) -> Iterable[Setting]:
    for table in fields(config):
        section = getattr(config, table.name)
        for item in fields(section):
            key = f"{table.name}.{item.name}"
            value = getattr(section, item.name)
            yield Setting(key, value, sources.get(key, "default"), item.metadata["doc"])


def load_settings(file: Path = layout.CONFIG_FILE, directory: Path = layout.CONFIG_DIR) -> Loaded:
    """The effective configuration, where each value comes from, and what was wrong."""
    problems: list[str] = []
    loaded = merge(_read_texts(file, directory, problems))
    return replace(loaded, problems=(*problems, *loaded.problems))


def _read_texts(file: Path, directory: Path, problems: list[str]) -> Iterator[tuple[str, str]]:
    try:
        drop_ins = sorted(p for p in directory.iterdir() if p.suffix == ".toml")
    except FileNotFoundError:
        drop_ins = []
    except OSError as error:
        drop_ins = []
        problems.append(f"{directory}: {find_reason(error)}; it is ignored")
    for path in (file, *drop_ins):
        try:
            yield str(path), path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{path}: {find_reason(error)}; the whole file is ignored")
        except UnicodeDecodeError:
            problems.append(f"{path}: it is not UTF-8; the whole file is ignored")
