"""Records that outlive a boot, and the ledger of what the stick has been through.

Owns: /run/ramos/records (in RAM, while the system runs) and /persist/log. Refuses: writing to the
stick on its own: only `flush_records`, which a save calls, does. Invariants: what lies in log/ is
bounded; a damaged record is passed over; records are never worth failing a save for; both folders
are root's alone, for an error may name any file.

    log/{boots,commits,failures,scrubs}.jsonl  one JSON object a line, oldest first
    log/boot/<boot id>.log               init's log of each boot
    log/pstore/<boot id>-<name>          what the kernel left when it panicked
    log/ledger.json                      totals
"""

import contextlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ramos import layout
from ramos.linux import fs
from ramos.store import public

KINDS = ("boots", "commits", "failures", "scrubs")
RECORDS_DIR = layout.RUN_DIR / "records"
PSTORE_DIR = Path("/sys/fs/pstore")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LEDGER = "ledger.json"
KIND_SHARE = 0.2
KEPT_BOOT_LOGS = 20
KEPT_PANICS = 20
MAX_PANIC_BYTES = 256 << 10
DAY_SECONDS = 86400
PRIVATE = 0o700


@dataclass(frozen=True)
class Ledger:
    """Totals over the stick's life, without the boot that runs."""

    since: int = 0
    boots: int = 0
    commits: int = 0
    errors: int = 0
    bytes_written: int = 0
    last_scrub: int = 0
    damaged: tuple[str, ...] = ()
    boot_id: str = ""
    boot_bytes: int = 0


def find_records(places: layout.Places) -> Path:
    """Where what happened is remembered until the next save takes it to the stick."""
    return places.run / RECORDS_DIR.name


def read_boot_id() -> str:
    """A name for the running boot."""
    with contextlib.suppress(OSError):
        return BOOT_ID.read_text(encoding="ascii").strip()[:8]
    return "unknown"


def note(kind: str, directory: Path = RECORDS_DIR, **values: Any) -> None:
    """Remember something, in RAM, until the next save takes it to the stick."""
    entry = {"time": int(time.time()), "boot": read_boot_id(), **values}
    with contextlib.suppress(OSError):
        directory.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        with (directory / f"{kind}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, default=str) + "\n")
    if kind == "failures":
        public.publish_failure(directory.parent, entry)


def read_records(kind: str, directory: Path) -> list[dict[str, Any]]:
    """The records of a kind in a folder, oldest first."""
    entries = []
    with contextlib.suppress(OSError):
        for line in (directory / f"{kind}.jsonl").read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    entries.append(entry)
    return entries


def read_ledger(log: Path) -> Ledger:
    """The ledger of a stick; an absent or damaged one starts anew."""
    try:
        values = json.loads((log / LEDGER).read_text(encoding="utf-8"))
        known = asdict(Ledger())
        for key, default in known.items():
            given = values.get(key, default)
            known[key] = tuple(map(str, given)) if key == "damaged" else type(default)(given)
        return Ledger(**known)
    except (OSError, ValueError, TypeError, AttributeError):
        return Ledger()


def write_ledger(log: Path, ledger: Ledger) -> None:
    """Replace the ledger as a whole."""
    log.mkdir(parents=True, exist_ok=True)
    data = json.dumps(asdict(ledger), indent=1).encode() + b"\n"
    fs.write_durably(log / LEDGER, data)


def advance(ledger: Ledger, boot_id: str, now: int, boot_bytes: int) -> Ledger:
    """The ledger with this boot's bytes, each counted once however often this is called."""
    new_boot = ledger.boot_id != boot_id
    before = 0 if new_boot else ledger.boot_bytes
    return replace(
        ledger,
        since=ledger.since or now,
        boots=ledger.boots + new_boot,
        bytes_written=ledger.bytes_written + max(0, boot_bytes - before),
        boot_id=boot_id,
        boot_bytes=max(boot_bytes, before),
    )


def total_up(log: Path, boot_bytes: int, directory: Path = RECORDS_DIR) -> Ledger:
    """The ledger together with what was noted since the last flush."""
    ledger = advance(read_ledger(log), read_boot_id(), int(time.time()), boot_bytes)
    scrubs = read_records("scrubs", directory)
    if scrubs:
        damaged = tuple(str(name) for name in scrubs[-1].get("damaged", ()))
        ledger = replace(ledger, last_scrub=int(scrubs[-1].get("time", 0)), damaged=damaged)
    return replace(
        ledger,
        commits=ledger.commits + len(read_records("commits", directory)),
        errors=ledger.errors + len(read_records("failures", directory)),
    )


def flush_records(
    persist: Path, boot_bytes: int, limit_mib: int, directory: Path = RECORDS_DIR
) -> None:
    """Take everything noted since the last flush to the stick. Raises OSError or RamosError."""
    log = persist / layout.LOG_DIR
    log.mkdir(exist_ok=True)
    if log.stat().st_mode & 0o077:
        log.chmod(PRIVATE)
    ledger = total_up(log, boot_bytes, directory)
    for kind in KINDS:
        _append_kind(kind, directory, log, int((limit_mib << 20) * KIND_SHARE))
    _keep_boot_log(log)
    _keep_panics(log)
    write_ledger(log, ledger)


def _append_kind(kind: str, directory: Path, log: Path, limit_bytes: int) -> None:
    """Move a kind's records to the stick."""
    source = directory / f"{kind}.jsonl"
    taken = directory / f"{kind}.taken"
    if not taken.exists():  # it exists where an earlier flush was interrupted
        with contextlib.suppress(FileNotFoundError):
            source.rename(taken)
    try:
        new = taken.read_bytes()
    except FileNotFoundError:
        return
    target = log / f"{kind}.jsonl"
    with contextlib.suppress(FileNotFoundError):
        if target.stat().st_size + len(new) > limit_bytes:
            kept = target.read_bytes()[-limit_bytes // 2 :].partition(b"\n")[2]
            fs.write_durably(target, kept)
    with target.open("ab") as file:
        file.write(new)
    fs.sync_file(target)
    taken.unlink()


def _keep_boot_log(log: Path) -> None:
    folder = log / "boot"
    target = folder / f"{read_boot_id()}.log"
    if target.exists() or not layout.BOOT_LOG.exists():
        return
    folder.mkdir(exist_ok=True)
    shutil.copyfile(layout.BOOT_LOG, target)
    _drop_oldest(folder, KEPT_BOOT_LOGS)


def _keep_panics(log: Path) -> None:
    """Copy what the kernel left behind, and free its room once the copy is durable."""
    try:
        names = sorted(os.listdir(PSTORE_DIR))
    except OSError:
        return
    folder = log / "pstore"
    for name in names:
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(OSError), (PSTORE_DIR / name).open("rb") as file:
            fs.write_durably(folder / f"{read_boot_id()}-{name}", file.read(MAX_PANIC_BYTES))
            (PSTORE_DIR / name).unlink()
    if names:
        _drop_oldest(folder, KEPT_PANICS)


def _drop_oldest(folder: Path, kept: int) -> None:
    """Oldest by the time of the file, and by name where the clock stood still."""
    files = sorted(folder.iterdir(), key=lambda path: (path.stat().st_mtime, path.name))
    for path in files[:-kept]:
        path.unlink()
