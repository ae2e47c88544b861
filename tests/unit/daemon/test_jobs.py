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
    stand_in(tmp_path, monkeypatch, {"directories": rows})
    assert jobs.name_growth() == told


def stand_in(
    place: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], code: int = 0
) -> None:
    """A command that notes what it was asked for, and says this."""
    program = place / "ramos"
    words = f"echo \"$@\" >{place}/asked\necho '{json.dumps(told)}'\nexit {code}\n"
    program.write_text(f"#!/bin/sh\n{words}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("report", "code", "text"),
    [
        ({"generation": 5, "notes": []}, 0, "lid: generation 5"),
        ({"generation": 0, "notes": []}, 0, "lid: nothing to save"),
        ({"generation": 5, "notes": ["it is slow"]}, 0, "lid: generation 5; it is slow"),
        ({"error": {}}, 4, "no save (lid): another one is at work"),
    ],
)
def test_a_save_by_itself_is_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: dict[str, Any], code: int, text: str
) -> None:
    stand_in(tmp_path, monkeypatch, report, code)
    assert jobs.save_unasked("lid") == text
    assert (tmp_path / "asked").read_text() == "commit --unasked --reason lid --json\n"


def test_a_save_by_itself_that_fails_is_a_failed_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, {"error": {}}, 1)
    with pytest.raises(RamosError, match="exit status 1"):
        jobs.save_unasked("timer")
