"""What is swapped to: what the kernel lists, and the file that is refused."""

from pathlib import Path

import pytest

from ramos.daemon import swap
from ramos.errors import RamosError

SWAPS = """Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/persist/swapfile                       file\t\t1048572\t\t300\t\t1
/dev/zram0                              partition\t524284\t\t20\t\t100
/persist/old\\040(deleted)               file\t\t1000\t\t7\t\t1
broken
"""


def test_what_is_in_use_is_read(tmp_path: Path) -> None:
    (tmp_path / "swaps").write_text(SWAPS)
    found = swap.read_swaps(tmp_path / "swaps")
    assert found == {"/persist/swapfile": 300, "/dev/zram0": 20, "/persist/old": 7}
    assert swap.read_swaps(tmp_path / "none") == {}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_swapfile_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "swapfile"
    file.write_bytes(b"no swap")
    file.chmod(mode)
    with pytest.raises(RamosError, match="others than root could read it"):
        swap.start_swapfile(file)


def test_what_is_not_swapped_to_is_not_stopped(tmp_path: Path) -> None:
    swap.stop_swapfile(tmp_path / "none")


def test_memory_adds_up() -> None:
    memory = swap.read_memory()
    assert 0 < memory.available_kib <= memory.total_kib


def test_a_room_that_nobody_can_look_at_is_empty(tmp_path: Path) -> None:
    assert swap.read_fill_percent(tmp_path / "none") == 0.0
    assert 0 <= swap.read_fill_percent(tmp_path) <= 100
