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


@pytest.mark.parametrize(("disk", "words"), [("sdz", ("S1", "Fast Stick")), ("", ("", ""))])
def test_who_a_stick_is_its_disk_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, disk: str, words: tuple[str, str]
) -> None:
    monkeypatch.setattr(identity, "name_disk", lambda _: disk)
    monkeypatch.setattr(identity, "_read_usb_words", lambda _: ("S1", "Fast Stick"))
    (tmp_path / "node").write_bytes(bytes(4096))
    seen = identity.read_identity(tmp_path / "node")
    assert (seen.serial, seen.model) == words
    assert seen.size_bytes == 4096
