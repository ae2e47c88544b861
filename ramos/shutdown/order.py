"""The save when the system goes down.

Owns: the order of the last things (save, merging, records, swap off, persist read-only), what the
consoles show, and what happens when the save fails. Refuses: saving in clean mode; ending because
of a signal. Invariants: the machine always goes down, also when nobody answers and when the save
hangs; a save that failed leaves a record that the next login shows.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramos import layout
from ramos.booted import Boot, Mode
from ramos.config import SaveConfig
from ramos.errors import EXIT_ERROR, RamosError, escape, find_reason
from ramos.linux import fs, syscalls, terminals
from ramos.linux.child import Pulse, Work, run_worker
from ramos.progress import OnProgress, Progress, quiet
from ramos.shutdown.deadline import count_sectors
from ramos.sizes import format_size
from ramos.stick import watch
from ramos.store import records

SaveTo = Callable[[Path, OnProgress], dict[str, Any]]
IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)
BAR_CHARS = 30
REMOUNT_TRIES = 10
# A save comes first, and whoever waits for it does not wait for this.
MERGE_SECONDS = 60
KEY_SECONDS = 0.01
DISK_KINDS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "vfat", "exfat", "ntfs", "ntfs3")
KEEPING_KINDS = frozenset((*DISK_KINDS, "fuseblk", "nfs", "nfs4", "cifs"))


@dataclass(frozen=True)
class Outcome:
    """How the save ended: `result` is saved, unchanged, off, clean, elsewhere or failed."""

    result: str
    text: str
    error: str = ""

    @property
    def exit_code(self) -> int:
        """What the service manager is told: only a save that failed is a failure."""
        return EXIT_ERROR if self.result == "failed" else 0


class Consoles:
    """The same lines on every console; nothing here waits for a console."""

    def __init__(
        self, paths: Sequence[Path], estimate: Callable[[Progress], Progress] = lambda seen: seen
    ) -> None:
        self.paths = tuple(paths)
        self.estimate = estimate
        self.started = time.monotonic()
        self.shown = ""

    def say(self, text: str) -> None:
        """A line of its own."""
        self._write(f"\r\x1b[KRAMOS: {escape(text)}\r\n")
        self.shown = ""

    def restart(self) -> None:
        """A new piece of work begins: its time counts from here."""
        self.started = time.monotonic()

    def show_progress(self, seen: Progress) -> None:
        """The percentage, a bar and an estimate, in place."""
        line = draw_progress(self.estimate(seen), time.monotonic() - self.started)
        self.show_passing(escape(line))

    def show_passing(self, line: str) -> None:
        """A line that the next one is written over."""
        if line != self.shown:
            self._write(f"\r\x1b[K{line}")
            self.shown = line

    def _write(self, text: str) -> None:
        for console in self.paths:
            terminals.write_terminal(console, text.encode("utf-8", "replace"))


def draw_progress(seen: Progress, elapsed_seconds: float) -> str:
    """One line of progress; the estimate appears once there is something to go by."""
    part = seen.part
    done = int(part * BAR_CHARS)
    line = f"RAMOS: saving [{'#' * done}{'.' * (BAR_CHARS - done)}] {seen.percent:3d} %"
    if 0.05 <= part < 1 and elapsed_seconds >= 1:
        line += f", about {int(elapsed_seconds * (1 - part) / part) + 1} s left"
    text = f"{seen.step} {seen.detail}".strip()
    return f"{line}  {text}" if text else line


def save_at_shutdown(
    boot: Boot,
    config: SaveConfig,
    save: Work,
    save_to: SaveTo,
    consoles: Consoles,
    pulse: Pulse = lambda: 0,
) -> Outcome:
    """Save as the settings say, and answer for a failure."""
    if boot.mode is Mode.CLEAN:
        return Outcome("clean", "clean mode: nothing is saved")
    if not config.at_shutdown:
        return Outcome("off", "nothing is saved: save.at_shutdown is false")
    with ignored_signals():
        return _save_until_settled(_Run(config, consoles, pulse), save, save_to)


@dataclass(frozen=True)
class _Run:
    """What every attempt needs."""

    config: SaveConfig
    consoles: Consoles
    pulse: Pulse

    def attempt(self, work: Work) -> dict[str, Any]:
        """Do it with the progress on the consoles and a limit on its silence."""
        consoles = self.consoles
        consoles.restart()
        consoles.show_progress(Progress("", 0, 1))
        stall = self.config.shutdown_stall_seconds
        report = run_worker(work, consoles.show_progress, stall, self.pulse)
        consoles.show_progress(Progress("", 1, 1))
        return report

    def ask(self, question: Sequence[str], keys: str) -> str:
        """The key that somebody pressed, or "" when nobody did in time."""
        with terminals.open_keys(self.consoles.paths) as descriptors:
            for line in question:  # keys count from the moment at which it can be read
                self.consoles.say(line)
            return terminals.read_key(descriptors, keys, self.config.shutdown_wait_seconds)


def _save_until_settled(run: _Run, save: Work, save_to: SaveTo) -> Outcome:
    retried = False
    while True:
        try:
            report = run.attempt(save)
        except RamosError as error:
            failed = error
        else:
            result = "saved" if report.get("generation") else "unchanged"
            return Outcome(result, str(report.get("text", result)))
        answer = _ask_what_next(run, failed, retried)
        if answer == "s":
            outcome = _save_elsewhere(run, save_to)
            if outcome is not None:
                return outcome
        elif answer == "g" or (answer == "" and retried):
            how = "gave up as asked" if answer else "gave up, for nobody answered"
            return Outcome("failed", f"{how}; the last save stays what it was", str(failed))
        retried = retried or answer == ""


def _ask_what_next(run: _Run, failed: RamosError, retried: bool) -> str:
    consoles = run.consoles
    consoles.say(f"THE SAVE FAILED. {failed}")
    if failed.hint:
        consoles.say(f"hint: {failed.hint}")
    otherwise = "giving up" if retried else "trying once more"
    question = (
        "[r] retry   [s] save elsewhere   [g] give up: what is not saved is lost",
        f"{otherwise} in {run.config.shutdown_wait_seconds} s if nobody answers",
    )
    return run.ask(question, "rsg")


def _save_elsewhere(run: _Run, save_to: SaveTo) -> Outcome | None:
    """Save to another filesystem that somebody picks; nothing if that came to nothing."""
    targets = list_targets()[:9]
    if not targets:
        run.consoles.say("no other filesystem that could take the save is mounted")
        return None
    question = [
        f"[{number}] {target}  ({format_size(free_bytes)} free)"
        for number, (target, free_bytes) in enumerate(targets, 1)
    ]
    key = run.ask(question, "123456789"[: len(targets)])
    if not key:
        return None
    target = targets[int(key) - 1][0]
    try:
        report = run.attempt(lambda on_progress: save_to(target, on_progress))
    except RamosError as error:
        run.consoles.say(f"SAVING ELSEWHERE FAILED TOO. {error}")
        return None
    text = f"saved to {report['path']}; bring it back with: ramos import --add {report['path']}"
    if not report.get("left_out"):
        return Outcome("elsewhere", text)
    left_out = f"NOT SAVED: {'; '.join(report['left_out'])}"
    run.consoles.say(left_out)
    return Outcome("elsewhere", text, left_out)


def list_targets(mountinfo: str | None = None) -> list[tuple[Path, int]]:
    """Writable filesystems that outlive this boot, other than persist: (directory, free bytes)."""
    text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    found: dict[str, tuple[Path, int]] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        words, kinds = left.split(" "), right.split(" ")
        target = Path(words[4].encode("latin-1").decode("unicode_escape"))
        inside = {layout.PERSIST_DIR, layout.RUN_DIR} & {target, *target.parents}
        if kinds[0] not in KEEPING_KINDS or "ro" in words[5].split(",") or inside:
            continue
        if kinds[1].startswith(("/dev/zram", "/dev/loop")):
            continue
        with contextlib.suppress(OSError):
            space = os.statvfs(target)
            if not space.f_flag & os.ST_RDONLY:
                found.setdefault(words[2], (target, space.f_bavail * space.f_frsize))
    return list(found.values())


def merge_when_saved(merge: Work, consoles: Consoles, stall_seconds: float, pulse: Pulse) -> None:
    """Housekeeping, once all is safe: a key skips it, and it has its time."""
    started = time.monotonic()
    told = False

    def show(seen: Progress) -> None:
        nonlocal told
        if not told:
            consoles.say(f"old layers are merged, for {MERGE_SECONDS} s at most; [s] skips it")
        told = True
        consoles.show_passing(f"RAMOS: {seen.step}, {time.monotonic() - started:.0f} s")

    with ignored_signals(), terminals.open_keys(consoles.paths) as keys:

        def is_unwanted() -> bool:
            late = time.monotonic() - started >= MERGE_SECONDS
            return late or bool(terminals.read_key(keys, "s", KEY_SECONDS))

        try:
            run_worker(merge, show, stall_seconds, pulse, is_unwanted)
        except RamosError as error:
            consoles.say(f"merging was left to another time: {error.reason}")


@contextlib.contextmanager
def ignored_signals() -> Iterator[None]:
    """Whoever wants to end us has to wait: the time limits are ours."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(outcome: Outcome, log_mib: int, stall_seconds: float) -> list[str]:
    """The last writes, in a child: a disk that does not answer must not hold the machine.

    What went wrong.
    """
    written = watch.read_boot_bytes()

    def work(_: OnProgress) -> dict[str, Any]:
        problems = []
        if outcome.result not in ("clean", "off"):
            try:
                leave_record(outcome, written, log_mib)
            except (OSError, RamosError) as error:
                problems.append(f"no record of this could be left on the stick: {error}")
        problems.append(seal_persist())
        return {"problems": [problem for problem in problems if problem]}

    try:
        return list(run_worker(work, quiet, stall_seconds, count_sectors)["problems"])
    except RamosError as error:
        return [f"the stick does not answer: {error.reason}. No record of this is on it"]


def leave_record(outcome: Outcome, boot_bytes: int, limit_mib: int) -> None:
    """Write what happened to persist, for the next boot to tell. Raises OSError or RamosError."""
    if outcome.error:
        records.note("failures", what="save at shutdown", error=outcome.error)
    log = layout.PERSIST_DIR / layout.LOG_DIR
    log.mkdir(exist_ok=True)
    entry = {
        "time": int(time.time()),
        "boot": records.read_boot_id(),
        "result": outcome.result,
        "text": outcome.text,
        "error": outcome.error,
    }
    _write_record(log / layout.LAST_SHUTDOWN, json.dumps(entry).encode() + b"\n")
    records.flush_records(layout.PERSIST_DIR, boot_bytes, limit_mib)


def _write_record(path: Path, data: bytes) -> None:
    """As a new file; on a full stick into the block that the record before it has."""
    try:
        fs.write_durably(path, data)
    except RamosError:
        if not path.exists():
            raise
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()
        fs.sync_file(path)


def seal_persist(persist: Path = layout.PERSIST_DIR) -> str:
    """Make persist read-only: its journal is empty then, though layers are still mounted from it.

    Unmounting it would fail as long as the root's own images lie on it. What went wrong, or "".
    """
    with contextlib.suppress(OSError):
        syscalls.swap_off(persist / layout.SWAPFILE)
    os.sync()
    flags = syscalls.MS_REMOUNT | syscalls.MS_RDONLY | syscalls.MS_NOATIME
    flags |= syscalls.MS_NOSUID | syscalls.MS_NODEV
    reason = ""
    for _ in range(REMOUNT_TRIES):
        try:
            syscalls.mount(Path("none"), persist, "none", flags)
            return ""
        except OSError as error:
            reason = f"cannot make {persist} read-only: {find_reason(error)}"
            time.sleep(0.2)
    return reason
