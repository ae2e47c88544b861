"""The life of ramosd: what it starts, what it ends, and how it says that it cannot begin."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ramos.booted import Boot
from ramos.config import Config, LinksConfig
from ramos.daemon import jobs, links, loop
from ramos.daemon.events import JobDone, Reload, Task
from ramos.daemon.jobs import Jobs
from ramos.daemon.sources import Sources
from ramos.daemon.step import State
from ramos.errors import RamosError
from ramos.linux import syscalls
from ramos.shutdown import keeper, stranded


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """One life, from a state to what was done."""
    done: list[str] = []
    monkeypatch.setattr(syscalls, "lock_memory", lambda: None)
    monkeypatch.setattr(loop, "run_loop", lambda _: done.append("loop"))
    monkeypatch.setattr(jobs, "end_worker", lambda worker: done.append(f"end {worker}"))
    monkeypatch.setattr(keeper, "start_keeper", lambda _: done.append("keeper"))
    monkeypatch.setattr(stranded, "leave", lambda *_, **words: done.append(f"leave {words}"))

    def run(**changes: Any) -> list[str]:
        at_work: Any = Jobs(Sources())
        at_work.workers[0] = "the scrub"
        daemon = SimpleNamespace(
            boot=Boot(),
            identity=None,
            leaves=False,
            jobs=at_work,
            notifier=SimpleNamespace(notify=done.append),
            state=dataclasses.replace(loop.first_state(Boot(), Config()), **changes),
        )
        monkeypatch.setattr(loop, "open_daemon", lambda: daemon)
        loop.main()
        return done

    return run


def test_what_still_runs_is_ended_before_it_leaves(live: Callable[..., list[str]]) -> None:
    assert live(reads_stick=True, stick="gone") == [
        *("READY=1", "loop", "STOPPING=1", "end the scrub"),
        "leave {'gone': True, 'alone': False}",
    ]


@pytest.mark.parametrize(("reads", "stick"), [(True, "present"), (False, "present")])
def test_files_are_kept_where_the_stick_is_read(
    live: Callable[..., list[str]], reads: bool, stick: str
) -> None:
    assert ("keeper" in live(reads_stick=reads, stick=stick)) is reads


def test_files_are_kept_no_longer_than_the_stick_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    for name in ("show_state", "act"):
        monkeypatch.setattr(loop, name, lambda *_: None)
    daemon: Any = SimpleNamespace(state=State(toram="running"), kept=writer)
    loop.handle(daemon, Reload(Config(links=LinksConfig(enabled=False))))
    assert daemon.kept == writer
    loop.handle(daemon, JobDone(Task.TO_RAM, "", "all of it is in RAM"))
    assert os.read(reader, 1) == b"", "whoever waits on the other end hears of it"
    os.close(reader)


def test_a_system_that_ramos_did_not_start_has_no_daemon(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise RamosError("cannot tell how this system started", "boot", "there is no such file")

    monkeypatch.setattr(loop, "open_daemon", refuse)
    with pytest.raises(SystemExit) as ended:
        loop.main()
    assert ended.value.code == 1
    assert "there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("enabled", [True, False])
def test_only_a_home_that_gets_links_is_watched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, enabled: bool
) -> None:
    watched: list[list[Path]] = []
    owner = SimpleNamespace(home=tmp_path / "home")
    monkeypatch.setattr(links, "find_owner", lambda _: owner)
    monkeypatch.setattr(links, "user_directory", lambda: tmp_path / "user")
    monkeypatch.setattr(links, "make_user_directory", lambda *_: None)
    config = dataclasses.replace(Config(), links=LinksConfig(enabled=enabled))
    daemon: Any = SimpleNamespace(
        state=loop.first_state(Boot(), config),
        folders=SimpleNamespace(set_folders=watched.append),
    )
    loop._find_owner(daemon)
    assert watched == [[tmp_path / "user", tmp_path / "home"] if enabled else []]
    assert (daemon.owner is owner) is enabled
