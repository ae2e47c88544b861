"""ramosd: sleeps until something happens, asks `step` what to do, and does it.

Owns: the one event loop, its sources (udev, memory pressure, inotify, signals, jobs, the clock)
and the doing of the actions. Refuses: deciding (that is `step`), and any authority: what it does
is a function that a command calls too, and nothing waits for it. Invariants: it never writes to
the stick but for what `step` asked for; what may take long or hang runs in a child.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, assert_never

import pyudev

from ramos.booted import Boot, read_boot
from ramos.config import Config, MemoryConfig, load_settings
from ramos.daemon import links, notify, powerbutton, swap
from ramos.daemon.step import (
    Action,
    Event,
    Job,
    JobDone,
    Leave,
    LinksChanged,
    Measured,
    MeetStick,
    Note,
    PowerPressed,
    Reload,
    Return,
    Start,
    State,
    StickGone,
    StickSeen,
    SyncLinks,
    Task,
    Tell,
    step,
)
from ramos.errors import RamosError, escape, find_reason
from ramos.layout import LOG_DIR, PERSIST_DIR, RUN_DIR, Places
from ramos.linux import run, syscalls, terminals
from ramos.linux.child import Work, Worker, end_worker, read_messages, start_worker
from ramos.shutdown import keeper, stranded
from ramos.stick import watch as stick_watch
from ramos.stick.identity import Identity
from ramos.store import records, scrub, seal

UDEV_CONTROL = Path("/run/udev/control")
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
    poller: "select.poll" = field(default_factory=select.poll)
    readers: dict[int, Callable[[], None]] = field(default_factory=dict)
    jobs: dict[int, tuple[Job, Worker]] = field(default_factory=dict)
    watch: links.Watch = field(default_factory=links.Watch)
    owner: links.Owner | None = None
    conflicts: tuple[bytes, ...] = ()
    links_due: float = 0.0
    stopping: bool = False
    leaves: bool = False
    shown: str = ""


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
        keeper.start_keeper(stick_watch.is_there)
    run_loop(daemon)
    daemon.notifier.notify("STOPPING=1")
    for _, worker in list(daemon.jobs.values()):
        end_worker(worker)
    known, config = daemon.identity, daemon.state.config.save
    gone = daemon.state.stick == "gone"
    stranded.leave(daemon.boot, known, config, gone=gone, alone=daemon.leaves)


def open_daemon() -> Daemon:
    """Open every source and find out how things are."""
    boot = read_boot(Places())
    loaded = load_settings()
    for problem in loaded.problems:
        log(f"settings: {problem}")
    daemon = Daemon(
        boot,
        stick_watch.remember_stick(boot),
        first_state(boot, loaded.config),
        notify.make_notifier(),
    )
    _open_signals(daemon)
    _open_pressure(daemon)
    _open_udev(daemon)
    _open_buttons(daemon)
    _listen(daemon, daemon.watch.descriptor, lambda: _links_stirred(daemon))
    start_job(daemon, Task.SETUP)
    if stick_watch.is_there():
        stick_watch.remember_loops()
    else:
        handle(daemon, StickGone(released=boot.toram))
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
    return State(
        config=config,
        swap_allowed=boot.restore != "mount",
        reads_stick=not boot.toram or boot.restore == "mount",
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
        wait = max(0.0, deadline - time.monotonic())
        for descriptor, _ in daemon.poller.poll(int(wait * 1000) + 1):
            reader = daemon.readers.get(descriptor)
            if reader is not None:
                reader()
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
    show_state(daemon)


def act(daemon: Daemon, action: Action) -> None:
    """Do one thing."""
    match action:
        case Start(job):
            start_job(daemon, job)
        case Tell(text):
            log(text)
            terminals.tell_everyone(text)
        case Note(what, error):
            records.note("failures", what=what, error=error)
        case MeetStick():
            stick_watch.remember_loops()
            _find_owner(daemon)
        case SyncLinks():
            sync_links(daemon)
        case Leave():
            daemon.stopping = daemon.leaves = True
        case _:
            assert_never(action)


def choose_work(job: Job, config: MemoryConfig) -> Work:
    """The function that a job runs in a child."""
    match job:
        case Task.SETUP:
            total = swap.read_memory().total_kib
            return lambda _: swap.apply_settings(config, total)
        case Task.SWAP_ON:
            return lambda _: swap.start_swapfile()
        case Task.SWAP_OFF:
            return lambda _: swap.stop_swapfile()
        case Task.SEAL:
            return lambda on_progress: {
                "sealed": seal.check_base(PERSIST_DIR, RUN_DIR, on_progress)
            }
        case Task.SCRUB:
            return lambda on_progress: scrub.scrub_on_schedule(on_progress, Places())
        case Task.POWER_OFF:
            return lambda _: {"text": run.run(["poweroff"]).text}
        case Return(node):
            return lambda on_progress: {"text": stick_watch.return_stick(node, on_progress)}
        case _:
            assert_never(job)


def start_job(daemon: Daemon, job: Job) -> None:
    """Begin something that may take long."""
    worker = start_worker(choose_work(job, daemon.state.config.memory))
    daemon.jobs[worker.reader] = (job, worker)
    _listen(daemon, worker.reader, lambda: _job_reported(daemon, worker))


def _job_reported(daemon: Daemon, worker: Worker) -> None:
    job = daemon.jobs[worker.reader][0]
    done: JobDone | None = None
    try:
        for message in read_messages(worker):
            if "result" in message:
                done = JobDone(job, "", str(message["result"].get("text", "")))
    except RamosError as error:
        done = JobDone(job, str(error))
    if done is None:
        return
    daemon.poller.unregister(worker.reader)
    del daemon.readers[worker.reader], daemon.jobs[worker.reader]
    end_worker(worker)
    log(f"{job}: {done.error or done.text or 'done'}")
    handle(daemon, done)


def measure() -> Measured:
    """How memory and the upper are now."""
    fill = swap.read_fill_percent(Places().upper)
    return Measured(time.monotonic(), swap.read_memory(), fill)


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
        daemon.watch.set_folders([])
        return
    folder = links.user_directory()
    with contextlib.suppress(OSError):
        links.make_user_directory(folder, daemon.owner)
    daemon.watch.set_folders([folder, daemon.owner.home])


def _links_stirred(daemon: Daemon) -> None:
    if daemon.watch.drain(links.user_directory()) and not daemon.links_due:
        daemon.links_due = time.monotonic() + SETTLE_LINKS_SECONDS


def _listen(daemon: Daemon, descriptor: int, reader: Callable[[], None], mask: int = 0) -> None:
    daemon.readers[descriptor] = reader
    daemon.poller.register(descriptor, mask or select.POLLIN)


def _open_signals(daemon: Daemon) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)

    def read_signals() -> None:
        for number in os.read(reader, 64):
            if number == signal.SIGHUP:
                _reload(daemon)
            else:
                daemon.stopping = True

    _listen(daemon, reader, read_signals)


def _reload(daemon: Daemon) -> None:
    loaded = load_settings()
    for problem in loaded.problems:
        log(f"settings: {problem}")
    daemon.state = replace(daemon.state, config=loaded.config)
    _find_owner(daemon)
    handle(daemon, Reload(loaded.config))


def _open_pressure(daemon: Daemon) -> None:
    """The kernel wakes us when programs wait for memory."""
    try:
        descriptor = swap.open_pressure()
    except OSError as error:
        why = find_reason(error)
        log(f"no pressure information ({why}): memory is looked at by the clock alone")
        return
    _listen(daemon, descriptor, lambda: handle(daemon, measure()), select.POLLPRI)


def _open_buttons(daemon: Daemon) -> None:
    for descriptor in powerbutton.open_buttons():

        def read_button(button: int = descriptor) -> None:
            with contextlib.suppress(BlockingIOError):
                if powerbutton.is_pressed(os.read(button, 4096)):
                    handle(daemon, PowerPressed())

        _listen(daemon, descriptor, read_button)


def _open_udev(daemon: Daemon) -> None:
    source = "udev" if UDEV_CONTROL.exists() else "kernel"
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source=source)
    monitor.filter_by("block")
    monitor.start()

    def read_devices() -> None:
        while (device := monitor.poll(timeout=0)) is not None:
            _device_changed(daemon, device.action, device.device_node)

    _listen(daemon, monitor.fileno(), read_devices)


def _device_changed(daemon: Daemon, action: str, node: str | None) -> None:
    if action == "remove":
        if daemon.state.stick == "present" and not stick_watch.is_there():
            handle(daemon, StickGone())
    elif daemon.state.stick != "present" and node and daemon.identity:
        verdict = stick_watch.judge(daemon.identity, Path(node))
        if verdict:
            handle(daemon, StickSeen(Path(node), verdict == "same"))


def _look_for_stick(daemon: Daemon) -> None:
    """It may have come back while nobody listened."""
    node = stick_watch.find_returned(daemon.identity) if daemon.identity else None
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
        "scrubbing": state.scrubbing,
        "conflicts": [os.fsdecode(name) for name in daemon.conflicts],
    }
    text = json.dumps(shown)
    if text == daemon.shown:
        return
    daemon.shown = text
    daemon.notifier.notify(f"STATUS=stick {shown['stick']}, swapfile {state.swap}")
    with contextlib.suppress(OSError):
        STATE_FILE.parent.mkdir(parents=True, exist_ok=True)
        temporary = STATE_FILE.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(STATE_FILE)
