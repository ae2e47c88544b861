"""A scrub: what it reads, what it reports, and what is no damage."""

import hashlib
import select
from pathlib import Path

from ramos import layout
from ramos.errors import RamosError
from ramos.layout import Places
from ramos.linux.child import Worker, end_worker, read_messages, start_worker
from ramos.progress import Progress
from ramos.store.generation import Generation, StoredFile, render
from ramos.store.records import find_records, read_records
from ramos.store.scrub import scrub, scrub_on_schedule


def make_store(persist: Path, content: bytes) -> Path:
    digest = hashlib.sha256(content).hexdigest()
    path = persist / layout.layer_path(digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for number in (1, 2):
        file = StoredFile("layer", layout.layer_path(digest), len(content), digest)
        text = render(Generation(number, number - 1, 1, "6.1", "user", "", (file,)))
        target = persist / layout.generation_path(number)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return path


def test_a_sound_store_is_read_once(tmp_path: Path) -> None:
    make_store(tmp_path, b"x" * 5000)
    report = scrub(tmp_path, lambda *_: None)
    assert (report.files, report.bytes_read, report.damaged) == (1, 5000, ())


def test_a_flipped_bit_is_named_with_the_generations_that_need_it(tmp_path: Path) -> None:
    path = make_store(tmp_path, b"x" * 5000)
    path.write_bytes(b"y" + b"x" * 4999)
    (damage,) = scrub(tmp_path, lambda *_: None).damaged
    assert "needed by generation 1, 2" in damage


def test_what_was_pruned_meanwhile_is_no_damage(tmp_path: Path) -> None:
    path = make_store(tmp_path, b"x" * 5000)

    def prune(seen: Progress) -> None:
        if not seen.done:
            path.unlink()
            for number in (1, 2):
                (tmp_path / layout.generation_path(number)).unlink()

    assert scrub(tmp_path, prune).damaged == ()


def test_damage_that_is_found_on_schedule_is_an_error_that_names_it(tmp_path: Path) -> None:
    """In a child, as the daemon does it: it stays at idle priority."""
    path = make_store(tmp_path, b"x" * 5000)
    places = Places(persist=tmp_path, run=tmp_path / "run")
    worker = start_worker(lambda on_progress: scrub_on_schedule(on_progress, places))
    assert wait_for(worker) == ""
    path.write_bytes(b"y" + b"x" * 4999)
    worker = start_worker(lambda on_progress: scrub_on_schedule(on_progress, places))
    assert path.name in wait_for(worker)
    noted = read_records("scrubs", find_records(places))
    assert [len(entry["damaged"]) for entry in noted] == [0, 1]


def wait_for(worker: Worker) -> str:
    """The error that a worker ended with."""
    try:
        while not any("result" in message for message in read_messages(worker)):
            select.select([worker.reader], [], [])
    except RamosError as error:
        return str(error)
    finally:
        end_worker(worker)
    return ""
