"""How the stick is, for `ramos health`: what it went through, and what is wrong.

Owns: putting together the ledger and the kernel's counters. Refuses: writing. Invariants: every
number has a source; what cannot be known is None.
"""

import contextlib
import os
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ramos import layout
from ramos.errors import RefusedError
from ramos.layout import Places
from ramos.linux.mounts import find_mount
from ramos.stick import identity, watch
from ramos.store import public, records

SECTOR_BYTES = 512
DAY_SECONDS = 86400
# Two sticks that were worn out on purpose died after 632 and 959 full writes.
FULL_WRITES_OF_A_STICK = 600
EXT4_SETTINGS = Path("/sys/fs/ext4")
SHOWN_FAILURES = 5
PUBLISHED = "health"


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
    # When it was so; 0 for now.
    as_of: int = 0


def find_health(places: Places) -> Health:
    """How it is now; for who may not read that, how it was when root looked last."""
    log = places.persist / layout.LOG_DIR
    if os.geteuid() == 0 or os.access(log, os.R_OK | os.X_OK):
        return read_health(places)
    values = public.read(places.run, PUBLISHED)
    if not values:
        reason = "nothing was published since the boot"
        hint = "'sudo ramos health' looks, and publishes it."
        raise RefusedError("cannot tell", "how the stick is", reason, hint=hint)
    names = [field.name for field in fields(Health) if field.name in values]
    known: dict[str, Any] = {n: tuple(v) if isinstance(v := values[n], list) else v for n in names}
    return Health(**{**known, "as_of": int(values["time"])})


def publish_health(places: Places, health: Health) -> None:
    """Let others than root know."""
    failures = [public.hide_words(failure) for failure in health.failures]
    public.publish(places.run, PUBLISHED, **{**asdict(health), "failures": failures})


def read_health(places: Places) -> Health:
    """What the ledger and the kernel say."""
    log = places.persist / layout.LOG_DIR
    written = watch.read_boot_bytes(places.persist)
    ledger = records.total_up(log, written, records.find_records(places))
    mount = find_mount(places.persist)
    source = Path(mount.source) if mount else Path()
    capacity = _read_capacity(identity.name_disk(source)) if mount else None
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
