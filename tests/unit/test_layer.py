"""With what mksquashfs is called: it depends on what there is to pack."""

import os
from pathlib import Path

from ramos.config import SaveConfig
from ramos.layer import LEAST_MEMORY_MIB, count_entries, list_options
from ramos.scan import Delta, walk

CONFIG = SaveConfig(memory_mib=96)


def read_memory(options: list[str]) -> int:
    return int(options[options.index("-mem") + 1].rstrip("M"))


def count(files: int, size: int) -> Delta:
    delta = Delta(files=files)
    for _ in range(files):
        delta.add_size(size)
    return delta


def test_twins_are_looked_for_while_that_takes_no_more_than_seconds() -> None:
    assert "-no-duplicates" not in list_options(CONFIG, count(15_000, 5))
    assert "-no-duplicates" in list_options(CONFIG, count(30_000, 5))
    different = Delta(files=30_000)
    for size in range(30_000):
        different.add_size(size)
    assert "-no-duplicates" not in list_options(CONFIG, different)


def test_notes_of_many_entries_leave_less_for_buffers() -> None:
    assert read_memory(list_options(CONFIG, Delta(files=30))) == CONFIG.memory_mib
    less = read_memory(list_options(CONFIG, Delta(files=100_000)))
    assert LEAST_MEMORY_MIB < less < CONFIG.memory_mib
    assert read_memory(list_options(CONFIG, Delta(files=1_000_000))) == LEAST_MEMORY_MIB


def test_entries_are_counted_as_they_are(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("five5")
    (tmp_path / "d").write_text("other size")
    (tmp_path / "e").mkdir()
    (tmp_path / "e/f").symlink_to("five5")
    found = count_entries(walk(os.fsencode(tmp_path)))
    assert (found.files, found.same_size_pairs, found.size_bytes) == (6, 3, 25)
