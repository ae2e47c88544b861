"""Two sticks written from one image: each has identities of its own, and is sound."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos import layout
from ramos.image import identity, partitions, write
from ramos.progress import quiet
from tests.root.image.test_device import attach, detach, look_up
from tests.root.image.test_image_disk import Made, make_image, tool

PASSPHRASE = b"a passphrase"
EXTRA_BYTES = 16 << 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def loops(tmp_path: Path) -> Iterator[list[str]]:
    """Two empty disks, larger than the image."""
    paths = []
    for name in ("one", "two"):
        file = tmp_path / name
        with file.open("wb") as stream:
            stream.truncate(partitions.DiskLayout(0).persist_start + (130 << 20) + EXTRA_BYTES)
        paths.append(attach(file))
    yield paths
    for path in paths:
        detach(path)


def write_stick(loop: str, image: Path) -> None:
    """As `ramos image write` does it."""
    changes = identity.plan_changes(image, partitions.make_identity(""))
    with write.hold_target(look_up(loop)) as target:
        digest = write.write_image(target, image, quiet, changes)
        write.read_back(target, image.stat().st_size, digest, quiet)


def cut(source: str | Path, start: int, size: int, target: Path) -> Path:
    with Path(source).open("rb") as reader, target.open("wb") as writer:
        reader.seek(start)
        writer.write(reader.read(size))
    return target


def read_identities(loop: str | Path, table: partitions.DiskLayout, work: Path) -> dict[str, str]:
    """Every identifier, by other people's tools."""
    found = {}
    shown = tool("sfdisk", "--dump", loop)
    found["disk"] = re.findall(r"label-id: (\S+)", shown)[0]
    for number, guid in enumerate(re.findall(r"uuid=([0-9A-F-]+)", shown)):
        found[f"part{number}"] = guid
    esp = cut(loop, table.esp_start, table.esp_bytes, work / "esp")
    persist = cut(loop, table.persist_start, table.persist_bytes, work / "persist")
    for name, file in (("esp", esp), ("persist", persist)):
        found[name] = tool("blkid", "-p", "-s", "UUID", "-o", "value", file).strip()
    config = tool("mtype", "-i", esp, f"::{layout.GRUB_CFG}")
    found["menu"] = re.findall(r"ramos\.(?:persist|luks)=UUID=(\S+?)[\" ]", config)[-1]
    return found


def test_two_sticks_of_one_image_are_no_clones(
    made: Made, loops: list[str], tmp_path: Path
) -> None:
    seen = [read_identities(made.image, made.table, tmp_path)]
    for loop in loops:
        write_stick(loop, made.image)
        seen.append(read_identities(loop, made.table, tmp_path))
        assert "No problems found" in tool("sgdisk", "--verify", cut(
            loop, 0, made.image.stat().st_size, tmp_path / "disk"
        ))  # fmt: skip
        tool("e2fsck", "-fn", tmp_path / "persist")
        assert "differences" not in tool("fsck.vfat", "-n", "-v", tmp_path / "esp")
        assert seen[-1]["menu"] == seen[-1]["persist"]
    for name in seen[0]:
        assert len({identities[name] for identities in seen}) == len(seen), name


def test_files_of_a_stick_that_is_no_clone_are_those_of_the_image(
    made: Made,
    loops: list[str],
    tmp_path: Path,
    private_mounts: None,  # noqa: ARG001
) -> None:
    write_stick(loops[0], made.image)
    table, place = made.table, tmp_path / "place"
    persist = cut(loops[0], table.persist_start, table.persist_bytes, tmp_path / "persist")
    place.mkdir()
    tool("mount", "-o", "loop", persist, place)
    try:
        for file in made.files:
            assert tool("sha256sum", place / file.path).split()[0] == file.sha256
        (place / "new").write_text("x" * 100_000)
    finally:
        tool("umount", place)
    tool("e2fsck", "-fn", persist)


def test_spare_superblock_of_a_stick_that_is_no_clone_repairs_it(tmp_path: Path) -> None:
    table = partitions.DiskLayout(partitions.DiskLayout(0).persist_start + (168 << 20))
    image, persist = tmp_path / "image", tmp_path / "persist"
    (tmp_path / "content").mkdir()
    (tmp_path / "content/file").write_text("kept")
    old, new = partitions.make_identity("old"), partitions.make_identity("new")
    partitions.make_persist(persist, table.persist_bytes, tmp_path / "content", old, 1)
    with image.open("wb") as file:
        file.truncate(table.size_bytes)
    partitions.make_table(image, table, old)
    partitions.copy_into(persist, image, table.persist_start)
    with image.open("r+b") as file:
        for offset, data in identity.plan_changes(image, new):
            file.seek(offset)
            file.write(data)
    written = cut(image, table.persist_start, table.persist_bytes, tmp_path / "written")
    with written.open("r+b") as file:
        file.write(bytes(4096))
    repair: list[str | Path] = ["e2fsck", "-fy", "-b", "32768", "-B", "4096", written]
    assert subprocess.run(repair, check=False, capture_output=True).returncode == 1
    assert f"UUID:          {new.persist}" in tool("dumpe2fs", "-h", written)
    assert tool("debugfs", "-R", "cat /file", written) == "kept"


def test_encrypted_stick_gets_another_uuid_around_it_and_is_no_clone(
    made: Made, loops: list[str], tmp_path: Path
) -> None:
    table, image = made.table, tmp_path / "encrypted.img"
    image.write_bytes(made.image.read_bytes())
    persist = cut(image, table.persist_start, table.persist_bytes, tmp_path / "plain")
    tool("resize2fs", persist, f"{(table.persist_bytes - (32 << 20)) >> 10}K")
    with persist.open("r+b") as file:
        file.truncate(table.persist_bytes - (32 << 20))
    partitions.encrypt_persist(persist, PASSPHRASE, 32, made.identity)
    words = [f"ramos.{name}=UUID={value}" for name, value in
             (("persist", made.identity.persist), ("luks", made.identity.luks))]  # fmt: skip
    data = image.read_bytes()
    # As long as before: the menu's word in front of it makes room.
    data = data.replace(words[0].encode() + b" psi=1 quiet", words[1].encode() + b" psi=1    quiet")
    start = table.persist_start
    image.write_bytes(data[:start] + persist.read_bytes() + data[start + table.persist_bytes :])
    seen = [read_identities(image, table, tmp_path)]
    for loop in loops:
        write_stick(loop, image)
        seen.append(read_identities(loop, table, tmp_path))
        check: list[str | Path] = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-"]
        check.append(tmp_path / "persist")
        subprocess.run(check, input=PASSPHRASE, check=True)
        assert seen[-1]["menu"] == seen[-1]["persist"]
    assert len({identities["persist"] for identities in seen}) == 3


def test_what_is_no_stick_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "random"
    for data in (b"", b"x", bytes(1 << 20), b"EFI PART" * (1 << 17)):
        file.write_bytes(data)
        assert identity.plan_changes(file, partitions.make_identity("")) == ()
