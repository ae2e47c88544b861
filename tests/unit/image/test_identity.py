"""A stick gets identities of its own, by patches of the image that it is written from."""

import re
import subprocess
from pathlib import Path

from ramos.image import identity, partitions


def tool(*argv: str | Path) -> str:
    """What a tool says; it must be content."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_table_and_file_system_of_a_stick_are_its_own_and_sound(tmp_path: Path) -> None:
    start = partitions.DiskLayout(0).persist_start
    table = partitions.DiskLayout(start + (32 << 20))
    old, new = partitions.make_identity("old"), partitions.make_identity("new")
    image, persist = tmp_path / "image", tmp_path / "persist"
    (tmp_path / "content").mkdir()
    partitions.make_persist(persist, table.persist_bytes, tmp_path / "content", old, 1)
    with image.open("wb") as file:
        file.truncate(table.size_bytes)
    partitions.make_table(image, table, old)
    partitions.copy_into(persist, image, start)
    with image.open("r+b") as file:
        for offset, data in identity.plan_changes(image, new):
            file.seek(offset)
            file.write(data)
    assert "No problems found" in tool("sgdisk", "--verify", image)
    uuids = re.findall(r"(?:label-id: |uuid=)(\S+)", tool("sfdisk", "--dump", image))
    mine = (new.disk, new.esp_part, new.persist_part, new.bios_part)
    assert {word.rstrip(",") for word in uuids} == {str(guid).upper() for guid in mine}
    with image.open("rb") as file:
        file.seek(start)
        persist.write_bytes(file.read(table.persist_bytes))
    tool("e2fsck", "-fn", persist)
    assert f"Filesystem UUID:          {new.persist}" in tool("dumpe2fs", "-h", persist)
