"""What the kernel says of disks and their partitions."""

from pathlib import Path

import pytest

from ramos.stick import identity


def test_partitions_of_a_disk_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(identity, "SYS_BLOCK", tmp_path)
    for name, number in (("sdz10", "10"), ("sdz2", "2"), ("sdz1", "1")):
        (tmp_path / "sdz" / name).mkdir(parents=True)
        (tmp_path / "sdz" / name / "partition").write_text(f"{number}\n")
    (tmp_path / "sdz" / "queue").mkdir()
    nodes = identity.list_partitions("sdz")
    assert nodes == [Path("/dev/sdz1"), Path("/dev/sdz2"), Path("/dev/sdz10")]
    assert identity.list_partitions("sdy") == []
