"""What ramosd does in children: whatever may take long or hang.

Owns: which function a job is, and hearing of its end. Refuses: deciding when (that is `step`).
Invariant: a child that dies is a job that failed.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_never

from ramos.config import MemoryConfig
from ramos.daemon import swap
from ramos.daemon.events import Job, JobDone, Return, Save, Task
from ramos.daemon.sources import Sources
from ramos.errors import EXIT_LOCKED, RamosError
from ramos.layout import PERSIST_DIR, RUN_DIR, Places
from ramos.linux import run
from ramos.linux.child import Work, Worker, end_worker, read_messages, start_worker
from ramos.progress import OnProgress
from ramos.sizes import format_size
from ramos.stick import health, toram, watch
from ramos.store import scrub, seal

# Of a path in these folders, how many parts everybody may know.
PUBLIC_DEPTHS = {"home": 3, "root": 2}


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
        case Task.TO_RAM:
            return copy_idly
        case Task.GROWTH:
            return lambda _: {"text": name_growth()}
        case Task.PUBLISH:
            return lambda _: health.publish_health(Places(), health.read_health(Places()))
        case Task.SCRUB:
            return lambda on_progress: scrub.scrub_on_schedule(on_progress, Places())
        case Task.POWER_OFF:
            return lambda _: {"text": run.run(["poweroff"]).text}
        case Save(reason):
            return lambda _: {"text": save_unasked(reason)}
        case Return(node):
            return lambda on_progress: {"text": watch.return_stick(node, on_progress)}
        case _:
            assert_never(job)


def save_unasked(reason: str) -> str:
    """As 'ramos commit' does it; what came of it."""
    argv = ["ramos", "commit", "--unasked", "--reason", reason, "--json"]
    done = run.run(argv, check=False)
    if done.code == EXIT_LOCKED:
        return f"no save ({reason}): another one is at work"
    if done.code:
        raise run.failure(argv, done)
    report = json.loads(done.text)
    made = f"generation {report['generation']}" if report["generation"] else "nothing to save"
    return f"{reason}: {'; '.join([made, *report['notes']])}"


def name_growth() -> str:
    """What takes most of the room for changes. Everybody reads it, so a home is not looked into."""
    told = json.loads(run.run(["ramos", "usage", "--json", "--count", "4"]).text)
    found = next((row for row in told["directories"] if row["path"] != "/"), None)
    if found is None:
        return ""
    parts = Path(found["path"]).parts
    shown = Path(*parts[: PUBLIC_DEPTHS.get(parts[1], len(parts))])
    return f"Most of it is in {shown}: {format_size(found['total_bytes'])}."


def copy_idly(on_progress: OnProgress) -> dict[str, Any]:
    """The images into RAM, while everything else comes first."""
    scrub.be_idle()
    return {"text": toram.move_to_ram(Places(), swap.has_room, on_progress)}


class Jobs:
    """The children at work."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.workers: dict[int, Worker] = {}

    def start(self, job: Job, config: MemoryConfig, on_done: Callable[[JobDone], None]) -> None:
        """Begin something that may take long; whoever asked hears of its end."""
        worker = start_worker(choose_work(job, config))
        self.workers[worker.reader] = worker

        def listen() -> None:
            done = read_end(job, worker)
            if done is not None:
                self.sources.forget(worker.reader)
                end_worker(self.workers.pop(worker.reader))
                on_done(done)

        self.sources.listen(worker.reader, listen)

    def end_all(self) -> None:
        """Nobody waits for what is still at work."""
        for worker in self.workers.values():
            end_worker(worker)


def read_end(job: Job, worker: Worker) -> JobDone | None:
    """How the job ended, once it has."""
    done = None
    try:
        for message in read_messages(worker):
            if "result" in message:
                done = JobDone(job, "", str(message["result"].get("text", "")))
    except RamosError as error:
        done = JobDone(job, str(error))
    return done
