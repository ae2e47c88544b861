"""What follows every save: GRUB is told, and the records are on the stick."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ramos.boot import confirm, esp
from ramos.errors import RamosError
from ramos.layout import Places
from ramos.progress import quiet
from ramos.save import after
from ramos.save.commit import CommitRequest, commit
from ramos.save.compact import compact
from ramos.save.exchange import export, import_image
from ramos.save.history import rollback
from ramos.shutdown import finalsave
from ramos.store.generations import read_default, read_generation
from tests.labs.lab import Lab


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None, monkeypatch: pytest.MonkeyPatch) -> Lab:  # noqa: ARG001
    """A system that was saved twice, and counts as the one that runs."""
    lab = Lab(tmp_path).make().boot_first()
    for text in ("1", "2"):
        change(lab, text)
        commit(lab.places, CommitRequest(config=lab.config))
    image = lab.top / "image"
    export(lab.places, read_generation(lab.places.persist, 1), image, lab.config, quiet)
    monkeypatch.setattr(after, "is_running", lambda places: places == lab.places)
    monkeypatch.setattr(esp, "LOCK", lab.top / "esp.lock")
    return lab


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The newest generation at each moment at which GRUB is told that there is one."""
    newest: list[int] = []
    monkeypatch.setattr(after, "_arm", lambda places: newest.append(find_newest(places)))
    return newest


def change(lab: Lab, text: str) -> None:
    (lab.places.root / f"a/file {text}").write_text(text)


def find_newest(places: Places) -> int:
    default = read_default(places.persist)
    return default.number if default else 0


def read_log(lab: Lab, kind: str) -> list[dict[str, Any]]:
    """The records that lie on the stick."""
    path = lab.places.persist / "log" / f"{kind}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def save(lab: Lab) -> object:
    change(lab, "3")
    return commit(lab.places, CommitRequest(config=lab.config, message="mine"))


def save_at_shutdown(lab: Lab) -> object:
    change(lab, "3")
    return finalsave.save(lab.places, lab.config, quiet)


KINDS: dict[str, Callable[[Lab], object]] = {
    "user": save,
    "shutdown": save_at_shutdown,
    "rollback": lambda lab: rollback(lab.places, None, quiet),
    "import": lambda lab: import_image(
        lab.places, lab.top / "image", lab.config, add=True, on_progress=quiet
    ),
    "compact": lambda lab: compact(lab.places, lab.config, everything=True, on_progress=quiet),
}


@pytest.mark.parametrize("reason", KINDS)
def test_grub_is_told_of_every_kind_of_save(lab: Lab, told: list[int], reason: str) -> None:
    KINDS[reason](lab)
    assert told == [3]
    assert read_default(lab.places.persist).reason == reason  # type: ignore[union-attr]
    record = read_log(lab, "commits")[-1]
    assert (record["reason"], record["generation"]) == (reason, 3)


def test_nothing_follows_where_nothing_was_saved(lab: Lab, told: list[int]) -> None:
    assert not commit(lab.places, CommitRequest(config=lab.config)).generation
    assert not commit(lab.places, CommitRequest(config=lab.config, dry_run=True)).generation
    assert told == []
    assert read_log(lab, "commits") == []


def test_a_system_on_an_esp_that_cannot_be_had_is_saved_all_the_same(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise RamosError("cannot find the ESP", "persist", "it is gone")

    monkeypatch.setattr(confirm, "arm_generation", fail)
    assert rollback(lab.places, None, quiet).number == 3
    assert read_log(lab, "commits")[-1]["generation"] == 3  # the records got there
    assert "cannot find the ESP" in read_log(lab, "failures")[-1]["error"]


def count_layers(lab: Lab) -> int:
    default = read_default(lab.places.persist)
    return len(default.layers) if default else 0


def test_at_shutdown_the_chain_is_merged_apart_from_the_save(lab: Lab) -> None:
    config = replace(lab.config, max_layers=3)
    change(lab, "3")
    saved = finalsave.save(lab.places, config, quiet)
    assert (saved["generation"], count_layers(lab)) == (3, 3), "whoever waits is done"
    steps: list[str] = []
    finalsave.merge(lab.places, config, lambda seen: steps.append(seen.step))
    assert find_newest(lab.places) == 4
    assert count_layers(lab) < 3
    assert steps == ["merging layers", "reading it back"]
