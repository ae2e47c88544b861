"""Where persist lies, as the partition table has it: what is no stick is not touched."""

import subprocess
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.stick.grow import Partition, read_persist_partition

MIB = 1 << 20
TWO = "start=2048,size=4096\nstart=8192,size=16384\n"


def make_disk(path: Path, table: str) -> Path:
    with path.open("wb") as file:
        file.truncate(16 * MIB)
    subprocess.run(["sfdisk", "-q", path], input=table.encode(), check=True)
    return path


def test_persist_is_the_second_partition(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", f"label: gpt\n{TWO}")
    assert read_persist_partition(disk) == Partition(4 * MIB, 8 * MIB)


@pytest.mark.parametrize("table", ["label: gpt\nstart=2048,size=4096\n", f"label: dos\n{TWO}"])
def test_a_disk_without_a_place_for_persist_is_no_stick(tmp_path: Path, table: str) -> None:
    disk = make_disk(tmp_path / "disk", table)
    before = disk.read_bytes()
    with pytest.raises(RamosError, match="no GPT with a persist partition"):
        read_persist_partition(disk)
    assert disk.read_bytes() == before
