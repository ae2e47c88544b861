"""What commands end with, as a program that calls them sees it."""

import json

import pytest
from click.testing import CliRunner

from ramos.booted import Boot
from ramos.cli import runtime
from ramos.layout import Places
from ramos.linux import syscalls, terminals
from ramos.linux.fs import hold_lock
from ramos.shutdown import deadline, finalsave, order, stranded
from ramos.shutdown.order import Outcome
from tests.unit.cli.conftest import ramos


@pytest.mark.parametrize(("damaged", "code"), [([], 0), (["rootfs.squashfs"], 3)])
def test_health(places: Places, damaged: list[str], code: int) -> None:
    (places.persist / "log/ledger.json").write_text(json.dumps({"damaged": damaged}))
    for words in (("health",), ("health", "--json")):
        done = ramos(places, *words)
        assert done.returncode == code, done.stderr
        assert all(name in done.stdout for name in damaged)


@pytest.mark.parametrize(("text", "code"), [("[save]\n", 0), ("[save]\nno_such = 1\n", 1)])
def test_config(places: Places, text: str, code: int) -> None:
    folder = places.root / "etc/ramos"
    folder.mkdir(parents=True)
    (folder / "ramos.toml").write_text(text)
    for words in (("config",), ("config", "--json")):
        done = ramos(places, *words)
        assert done.returncode == code, done.stderr
        assert ("no_such" in done.stderr) is bool(code)


@pytest.mark.parametrize("result", ["saved", "unchanged", "off", "clean", "elsewhere", "failed"])
def test_only_a_failed_save_at_shutdown_is_a_failure(result: str) -> None:
    assert Outcome(result, "").exit_code == (1 if result == "failed" else 0)


@pytest.mark.parametrize(
    "words", [("pin", "1"), ("unpin", "1"), ("prune",), ("import", "/nonexistent.squashfs")]
)
def test_what_changes_the_store_waits_for_the_lock(places: Places, words: tuple[str, ...]) -> None:
    with hold_lock(places.lock_file, "a save"):
        done = ramos(places, *words)
    assert done.returncode == 4, done.stderr
    assert "a save" in done.stderr
    assert ramos(places, *words).returncode != 4


@pytest.mark.parametrize(("result", "code"), [("saved", 0), ("failed", 1)])
def test_the_service_of_the_shutdown_hears_how_the_save_ended(
    monkeypatch: pytest.MonkeyPatch, result: str, code: int
) -> None:
    said: list[str] = []
    monkeypatch.setattr(runtime, "read_boot", lambda _: Boot())
    monkeypatch.setattr(stranded, "was_settled", lambda: False)
    monkeypatch.setattr(deadline, "cancel_deadline", lambda: None)
    monkeypatch.setattr(deadline, "start_deadline", lambda _: None)
    monkeypatch.setattr(syscalls, "lock_memory", lambda: None)
    monkeypatch.setattr(finalsave, "make_meter", lambda _: (lambda: 0, lambda seen: seen))
    monkeypatch.setattr(terminals, "list_consoles", lambda: ())
    monkeypatch.setattr(order.Consoles, "say", lambda _, text: said.append(text))
    monkeypatch.setattr(order, "save_at_shutdown", lambda *_: Outcome(result, "the outcome"))
    monkeypatch.setattr(order, "merge_when_saved", lambda *_: said.append("merged"))
    monkeypatch.setattr(order, "finish", lambda *_: ["a trouble"])
    assert CliRunner().invoke(runtime.shutdown_save).exit_code == code
    after = ["Saved. You may switch off.", "merged"] if result == "saved" else []
    assert said[-len(after) - 2 :] == ["the outcome", *after, "a trouble"]
