"""What ramosd does in children: how it ends, and that it ends once."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ramos.config import MemoryConfig
from ramos.daemon import jobs
from ramos.daemon.events import JobDone, Task
from ramos.daemon.jobs import Jobs
from ramos.daemon.sources import Sources
from ramos.errors import RamosError


def work(_: object) -> dict[str, Any]:
    return {"text": "all is well"}


def fail(_: object) -> dict[str, Any]:
    raise RamosError("cannot swap to", "the stick", "it is gone")


def die(_: object) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@pytest.mark.parametrize(
    ("life", "error", "text"),
    [(work, "", "all is well"), (fail, "it is gone", ""), (die, "died without a word", "")],
)
def test_whoever_asked_hears_of_the_end(
    life: Any, error: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "choose_work", lambda *_: life)
    sources, told = Sources(), list[JobDone]()
    at_work = Jobs(sources)
    at_work.start(Task.SEAL, MemoryConfig(), told.append)
    while not told:
        sources.wait(1)
    assert [(done.job, done.text) for done in told] == [(Task.SEAL, text)]
    assert error in told[0].error
    assert not at_work.workers
    assert not sources.readers


def test_what_nobody_waits_for_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "choose_work", lambda *_: lambda _: time.sleep(3600))
    at_work = Jobs(Sources())
    at_work.start(Task.SEAL, MemoryConfig(), lambda _: None)
    child = next(iter(at_work.workers.values())).child
    at_work.end_all()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (["/", "/var/lib/db"], "Most of it is in /var/lib/db: 3.0 MiB."),
        (["/home/ann/secret/plan", "/"], "Most of it is in /home/ann: 3.0 MiB."),
        (["/root/keys"], "Most of it is in /root: 3.0 MiB."),
        (["/"], ""),
        ([], ""),
    ],
)
def test_the_largest_growth_names_no_folder_of_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str], told: str
) -> None:
    rows = [{"path": path, "total_bytes": 3 << 20} for path in paths]
    program = tmp_path / "ramos"
    program.write_text(f"#!/bin/sh\necho '{json.dumps({'directories': rows})}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert jobs.name_growth() == told
