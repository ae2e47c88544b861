"""A scrub: what it reads, what it reports, and what is no damage."""

import hashlib
from pathlib import Path

from ramos import layout
from ramos.generation import Generation, StoredFile, render
from ramos.scrub import scrub


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

    def prune(part: float, _: str) -> None:
        if part == 0:
            path.unlink()
            for number in (1, 2):
                (tmp_path / layout.generation_path(number)).unlink()

    assert scrub(tmp_path, prune).damaged == ()
