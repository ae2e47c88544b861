"""ramosd: sleeps until something happens, asks `step` what to do, and does it.

Owns: the one event loop, the clock, what each source means, and the doing of the actions. Refuses:
deciding (that is `step`), and any authority: what it does is a function that a command calls too,
and nothing waits for it. Invariants: it never writes to the stick but for what `step` asked for;
what may take long or hang runs in a child (`jobs`).
"""

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, assert_never

from ramos.booted import Boot, Mode, ToRam, read_boot
from ramos.config import Config, load_settings
from ramos.daemon import links, notify, sources, swap
from ramos.daemon.autosave import Writing
from ramos.daemon.events import (
    Action,
    Event,
    Job,
    JobDone,
    Leave,
    LidClosed,
    LinksChanged,
    Log,
    Measured,
    MeetStick,
    MountsChanged,
    Note,
    PowerPressed,
    Reload,
    Start,
    StickGone,
    StickSeen,
    SyncLinks,
    Task,
    Tell,
)
from ramos.daemon.jobs import Jobs
from ramos.daemon.sources import Sources
from ramos.daemon.step import State, step
from ramos.errors import RamosError, escape, find_reason
from ramos.layout import LOG_DIR, PERSIST_DIR, RUN_DIR, Places
from ramos.linux import syscalls, terminals
from ramos.linux.fs import write_changed
from ramos.linux.mounts import find_mount
from ramos.shutdown import keeper, stranded
from ramos.stick import toram, watch
from ramos.stick.check import read_written_bytes
from ramos.stick.identity import Identity
from ramos.store import records, seal

STATE_FILE = RUN_DIR / "ramosd.json"
SETTLE_LINKS_SECONDS = 0.2
DAY_SECONDS = 86400


@dataclass
class Daemon:
    """Everything that is open, and the state."""

    boot: Boot
    identity: Identity | None
    state: State
    notifier: Any
    sources: Sources
    jobs: Jobs
    folders: links.FolderWatch = field(default_factory=links.FolderWatch)
    owner: links.Owner | None = None
    conflicts: tuple[bytes, ...] = ()
    links_due: float = 0.0
    stopping: bool = False
    leaves: bool = False
    shown: str = ""
    # What lets go of the programs that are kept for the way down, while the stick is read.
    kept: int | None = None


def main() -> None:
    """The life of ramosd."""
    try:
        daemon = open_daemon()
    except RamosError as error:
        log(f"ramosd: {error}")
        sys.exit(error.exit_code)
    syscalls.lock_memory()  # the programs lie on the stick, which may go
    notify.tell_ready(daemon.notifier)
    if daemon.state.reads_stick and daemon.state.stick == "present":
        daemon.kept = keeper.start_keeper(watch.is_there)
    run_loop(daemon)
    daemon.notifier.notify("STOPPING=1")
    daemon.jobs.end_all()
    known, config = daemon.identity, daemon.state.config.save
    gone = daemon.state.stick == "gone"
    stranded.leave(daemon.boot, known, config, gone=gone, alone=daemon.leaves)


def open_daemon() -> Daemon:
    """Open every source and find out how things are."""
    boot = read_boot(Places())
    loaded = load_settings()
    for problem in loaded.problems:
        log(f"settings: {problem}")
    opened = Sources()
    daemon = Daemon(
        boot,
        watch.remember_stick(boot),
        first_state(boot, loaded.config),
        notify.make_notifier(),
        opened,
        Jobs(opened),
    )
    sources.open_signals(opened, lambda number: _signal_came(daemon, number))
    _open_pressure(daemon)
    sources.open_udev(
        opened,
        lambda action, node: _device_changed(daemon, action, node),
        lambda battery: handle_now(daemon, battery),
    )
    sources.open_mounts(opened, lambda: _mounts_changed(daemon))
    sources.open_buttons(
        opened,
        lambda: handle(daemon, PowerPressed()),
        lambda: handle_now(daemon, LidClosed()),
    )
    opened.listen(daemon.folders.descriptor, lambda: _links_stirred(daemon))
    start_job(daemon, Task.SETUP)
    if watch.is_there():
        watch.remember_loops()
    else:
        handle(daemon, StickGone(released=boot.toram is ToRam.NOW))
        _look_for_stick(daemon)
    _find_owner(daemon)
    handle(daemon, LinksChanged())
    return daemon


def first_state(boot: Boot, config: Config) -> State:
    """How things are when the daemon starts, for the first time or again."""
    ledger = records.read_ledger(PERSIST_DIR / LOG_DIR)
    left = config.health.scrub_days * DAY_SECONDS
    if since := ledger.last_scrub or ledger.since:
        left -= max(0, int(time.time()) - since)
    in_ram = toram.is_in_ram(Places())
    return State(
        config=config,
        clean=boot.mode is Mode.CLEAN,
        swap_allowed=in_ram or boot.restore != "mount",
        reads_stick=not in_ram,
        toram="done" if in_ram else "waiting" if boot.toram is ToRam.LATER else "no",
        toram_bytes=sum(image.size_bytes for image in toram.list_on_stick(Places())),
        luks=boot.luks,
        swap="on" if str(swap.SWAPFILE) in swap.read_swaps() else "off",
        seal="needed" if seal.list_unsealed(PERSIST_DIR) else "done",
        next_scrub=time.monotonic() + max(0, left),
    )


def log(text: str) -> None:
    """One line for the service manager's log; whoever keeps that may be gone."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{escape(text)}\n")  # line by line


def run_loop(daemon: Daemon) -> None:
    """Sleep, handle what happened, sleep."""
    next_tick = 0.0
    while not daemon.stopping:
        deadline = min(next_tick, daemon.links_due or next_tick)
        daemon.sources.wait(max(0.0, deadline - time.monotonic()))
        now = time.monotonic()
        if daemon.links_due and now >= daemon.links_due:
            daemon.links_due = 0.0
            handle(daemon, LinksChanged())
        if now >= next_tick:
            handle(daemon, measure())
            daemon.notifier.notify("WATCHDOG=1")
        next_tick = (
            now + daemon.state.tick_seconds
            if now >= next_tick
            else min(next_tick, now + daemon.state.tick_seconds)
        )


def handle(daemon: Daemon, event: Event) -> None:
    """One event: decide, then act."""
    daemon.state, actions = step(daemon.state, event)
    for action in actions:
        try:
            act(daemon, action)
        except (OSError, RamosError) as error:
            log(f"{type(action).__name__}: {error}")
            records.note("failures", what=type(action).__name__, error=str(error))
    if daemon.kept is not None and not daemon.state.reads_stick:
        os.close(daemon.kept)
        daemon.kept = None
    show_state(daemon)


def handle_now(daemon: Daemon, event: Event) -> None:
    """What may make a save due, and a look at whether it can begin."""
    handle(daemon, event)
    handle(daemon, measure())


def act(daemon: Daemon, action: Action) -> None:
    """Do one thing."""
    match action:
        case Start(job):
            start_job(daemon, job)
        case Tell(text):
            log(text)
            terminals.tell_everyone(text)
        case Log(text):
            log(text)
        case Note(what, error):
            records.note("failures", what=what, error=error)
        case MeetStick():
            watch.remember_loops()
            _find_owner(daemon)
            start_job(daemon, Task.PUBLISH)
        case SyncLinks():
            sync_links(daemon)
        case Leave():
            daemon.stopping = daemon.leaves = True
        case _:
            assert_never(action)


def start_job(daemon: Daemon, job: Job) -> None:
    """Begin something that may take long."""
    daemon.jobs.start(job, daemon.state.config.memory, lambda done: _job_ended(daemon, done))


def _job_ended(daemon: Daemon, done: JobDone) -> None:
    log(f"{done.job}: {done.error or done.text or 'done'}")
    handle(daemon, done)


def measure() -> Measured:
    """How memory and the upper are now."""
    places = Places()
    fill = swap.read_fill_percent(places.upper)
    return Measured(time.monotonic(), swap.read_memory(), fill, read_writing(places))


def read_writing(places: Places) -> Writing:
    """How much the upper holds and has written, and what became of the last save."""
    used = written = 0
    with contextlib.suppress(OSError):
        space = os.statvfs(places.upper)
        used = (space.f_blocks - space.f_bfree) * space.f_frsize
        mount = find_mount(places.upper)
        number = Path(mount.source).stat().st_rdev if mount else 0
        written = read_written_bytes(f"{os.major(number)}:{os.minor(number)}") or 0
    mark = 0.0
    with contextlib.suppress(OSError):
        mark = places.saved_file.stat().st_mtime
    return Writing(used, written, mark, places.rollback_file.exists())


def sync_links(daemon: Daemon) -> None:
    """The home in step with persist; what is in the way is said once."""
    if daemon.owner is None or not daemon.state.config.links.enabled:
        return
    report = links.sync_links(daemon.owner, links.user_directory())
    for problem in report.problems:
        log(f"links: {problem}")
    for name in set(report.conflicts) - set(daemon.conflicts):
        log(f"links: {os.fsdecode(name)} is in the way in {daemon.owner.home}")
    daemon.conflicts = report.conflicts


def _find_owner(daemon: Daemon) -> None:
    """Whose home it is, and the folders to watch."""
    config = daemon.state.config.links
    daemon.owner = links.find_owner(config) if config.enabled else None
    if daemon.owner is None:
        daemon.folders.set_folders([])
        return
    folder = links.user_directory()
    with contextlib.suppress(OSError):
        links.make_user_directory(folder, daemon.owner)
    daemon.folders.set_folders([folder, daemon.owner.home])


def _links_stirred(daemon: Daemon) -> None:
    if daemon.folders.drain(links.user_directory()) and not daemon.links_due:
        daemon.links_due = time.monotonic() + SETTLE_LINKS_SECONDS


def _signal_came(daemon: Daemon, number: int) -> None:
    if number == signal.SIGHUP:
        _reload(daemon)
    else:
        daemon.stopping = True


def _reload(daemon: Daemon) -> None:
    loaded = load_settings()
    for problem in loaded.problems:
        log(f"settings: {problem}")
    daemon.state = replace(daemon.state, config=loaded.config)
    _find_owner(daemon)
    handle(daemon, Reload(loaded.config))


def _open_pressure(daemon: Daemon) -> None:
    try:
        sources.open_pressure(daemon.sources, lambda: handle(daemon, measure()))
    except OSError as error:
        why = find_reason(error)
        log(f"no pressure information ({why}): memory is looked at by the clock alone")


def _device_changed(daemon: Daemon, action: str, node: str | None) -> None:
    if action == "remove":
        used = daemon.state.stick == "present" or daemon.state.ejected
        if used and not watch.is_there():
            handle(daemon, StickGone())
    elif daemon.state.stick != "present" and node and daemon.identity:
        verdict = watch.judge(daemon.identity, Path(node))
        if verdict:
            handle(daemon, StickSeen(Path(node), verdict == "same"))


def _mounts_changed(daemon: Daemon) -> None:
    handle(daemon, MountsChanged(find_mount(PERSIST_DIR) is not None, watch.is_there()))


def _look_for_stick(daemon: Daemon) -> None:
    """It may have come back while nobody listened."""
    node = watch.find_returned(daemon.identity) if daemon.identity else None
    if node is not None:
        handle(daemon, StickSeen(node, True))


def show_state(daemon: Daemon) -> None:
    """For the service manager and for `ramos status`, when it changed."""
    state = daemon.state
    shown = {
        "pid": os.getpid(),
        "stick": "returning" if state.returning else state.stick,
        "swapfile": state.swap,
        "fill_level": state.fill_level,
        "seal": state.seal,
        "toram": state.toram,
        "scrubbing": state.scrubbing,
        "conflicts": len(daemon.conflicts),  # everybody reads it
    }
    text = json.dumps(shown)
    if text == daemon.shown:
        return
    daemon.shown = text
    daemon.notifier.notify(f"STATUS=stick {shown['stick']}, swapfile {state.swap}")
    with contextlib.suppress(OSError, RamosError):
        write_changed(STATE_FILE, text)
