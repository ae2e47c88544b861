"""A small disk put together from nothing much, and looked at with other people's tools."""

import dataclasses
import hashlib
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import grubenv, menu
from ramos.errors import RamosError
from ramos.image import contents, partitions, squash
from ramos.image.plan import ESP_BYTES, Plan
from ramos.sizes import MIB
from ramos.store import generation

EPOCH = 1_700_000_000
KERNEL = "6.1.0-0-test"
SWAP_BYTES = 4 * MIB
MICROCODE = b"\0" * 512
SIZE_BYTES = 8 * MIB + ESP_BYTES + 96 * MIB + 8 * MIB


@dataclass(frozen=True)
class Made:
    """An image, and what it was made from."""

    image: Path
    table: partitions.DiskLayout
    identity: partitions.Identifiers
    parts: contents.Parts
    files: tuple[generation.StoredFile, ...]

    @property
    def esp(self) -> str:
        """The ESP as mtools want it."""
        return f"{self.image}@@{self.table.esp_start}"


def make_plan(output: Path) -> Plan:
    return Plan(
        base="debian",
        output=output,
        cache=output.parent,
        init="systemd",
        swap_bytes=SWAP_BYTES,
        epoch=EPOCH,
    )


def make_parts(directory: Path) -> contents.Parts:
    """Three small base images and something in place of a kernel."""
    trees = {name: directory / f"tree-{name}" for name in ("rootfs", "modules", "firmware")}
    images = {}
    for name, tree in trees.items():
        (tree / "usr/lib" / name).mkdir(parents=True)
        (tree / "usr/lib" / name / "file").write_text(f"{name}\n" * 1000)
        images[name] = directory / f"{name}.squashfs"
        squash.make_squashfs(tree, images[name], 3, EPOCH, lambda _: None)
    vmlinuz, initramfs = directory / "vmlinuz", directory / "initramfs"
    vmlinuz.write_bytes(b"kernel" * 5000)
    initramfs.write_bytes(b"initramfs" * 5000)
    squashed = (images["rootfs"], images["modules"], images["firmware"])
    return contents.Parts(KERNEL, vmlinuz, initramfs, *squashed, {"intel-ucode": MICROCODE})


def make_image(directory: Path, seed: str = "seed") -> Made:
    """Everything that a build does after the base images are there."""
    work = directory / "work"
    work.mkdir(parents=True)
    plan = make_plan(directory / "stick.img")
    parts = make_parts(work)
    files = contents.describe_base(parts)
    identity = partitions.make_identity(seed)
    table = partitions.DiskLayout(SIZE_BYTES)
    names, bios = contents.fill_esp(plan, parts, identity, work)
    partitions.make_esp(work / "esp", table.esp_bytes, names, identity.esp_serial, EPOCH)
    contents.fill_persist(plan, parts, files, identity, work / "content", EPOCH)
    persist = work / "persist"
    partitions.make_persist(
        persist, table.persist_bytes, work / "content", identity, EPOCH, plan.swap_bytes
    )
    partitions.assemble(
        plan.output, table, partitions.DiskParts(work / "esp", persist, bios), identity
    )
    return Made(plan.output, table, identity, parts, files)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def persist(private_mounts: None, made: Made, tmp_path: Path) -> Iterator[Path]:  # noqa: ARG001
    """The data partition, mounted for one test."""
    copy = tmp_path / "persist.ext4"
    with made.image.open("rb") as source, copy.open("wb") as target:
        source.seek(made.table.persist_start)
        target.write(source.read(made.table.persist_bytes))
    place = tmp_path / "persist"
    place.mkdir()
    tool("mount", "-o", "loop,ro,noload", copy, place)
    yield place
    tool("umount", place)


def tool(*argv: str | Path) -> str:
    """What a tool says; it must be content."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_partition_table(made: Made) -> None:
    assert "No problems found" in tool("sgdisk", "--verify", made.image)
    table = tool("sgdisk", "--print", made.image)
    assert str(made.identity.disk).upper() in table
    rows = re.findall(r"(?m)^ +(\d) .* ([0-9A-F]{4})  ", table)
    assert dict(rows) == {"1": "EF00", "2": "8300", "3": "EF02"}


def test_esp_is_a_sound_fat32(made: Made, tmp_path: Path) -> None:
    copy = tmp_path / "esp"
    with made.image.open("rb") as source, copy.open("wb") as target:
        source.seek(made.table.esp_start)
        target.write(source.read(made.table.esp_bytes))
    assert "differences" not in tool("fsck.vfat", "-n", "-v", copy)
    blkid = tool("blkid", "-p", "-o", "export", copy)
    assert f"LABEL={layout.ESP_LABEL}" in blkid
    assert f"UUID={made.identity.esp_uuid}" in blkid
    assert "VERSION=FAT32" in blkid


def test_esp_holds_grub_and_a_complete_kernel(made: Made, tmp_path: Path) -> None:
    tool("mcopy", "-s", "-i", made.esp, "::", tmp_path)
    assert (tmp_path / "EFI/BOOT/BOOTX64.EFI").read_bytes()[:2] == b"MZ"
    env = grubenv.parse((tmp_path / layout.GRUBENV).read_bytes())
    assert (tmp_path / layout.GRUBENV).stat().st_size == 512
    assert (env.good, env.trial, env.gen_good) == (KERNEL, "", 1)
    folder = tmp_path / layout.KERNELS_DIR / KERNEL
    assert (folder / "complete").exists()
    check = ["sha256sum", "--check", "sha256"]
    assert subprocess.run(check, cwd=folder, capture_output=True, check=False).returncode == 0
    text = (tmp_path / layout.GRUB_CFG).read_text()
    assert f"ramos.persist=UUID={made.identity.persist}" in text
    tool("grub-script-check", tmp_path / layout.GRUB_CFG)


def test_bios_finds_the_core(made: Made) -> None:
    with made.image.open("rb") as file:
        sector = file.read(512)
        start = int.from_bytes(sector[0x5C:0x64], "little")
        file.seek(start * 512)
        core = file.read(512)
    assert sector[510:] == b"\x55\xaa"
    assert start * 512 == partitions.BIOS_START_BYTES
    assert int.from_bytes(core[0x1F4:0x1FC], "little") == start + 1
    assert b"GRUB" in sector[:440]


def test_early_configuration_is_inside_grub(made: Made) -> None:
    work = made.image.parent / "work"
    assert made.identity.esp_uuid.encode() not in (work / "grub.efi").read_bytes()
    assert menu.PREFIX.encode() in (work / "grub.efi").read_bytes()


def test_persist_is_a_sound_ext4_for_verity(made: Made, tmp_path: Path) -> None:
    copy = tmp_path / "persist.ext4"
    shutil.copy(made.image.parent / "work" / "persist", copy)
    tool("e2fsck", "-fn", copy)
    told = tool("dumpe2fs", "-h", copy)
    for feature in ("verity", "has_journal", "extent", "metadata_csum"):
        assert feature in told
    assert "Block size:               4096" in told
    assert f"Filesystem UUID:          {made.identity.persist}" in told


def test_persist_holds_generation_1_and_its_images(persist: Path) -> None:
    place = persist / layout.generation_path(1)
    first = generation.parse(place.read_bytes(), place.name)
    assert (first.number, first.parent, first.reason, first.layers) == (1, 0, "build", ())
    assert first.kernel == KERNEL
    assert first.created == EPOCH
    assert [file.kind for file in first.base] == ["rootfs", "modules", "firmware"]
    for file in first.base:
        data = (persist / file.path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file.sha256
        assert len(data) == file.size_bytes
        assert (persist / file.path).stat().st_mode & 0o077 == 0, "users of the stick"
        told = tool("fsverity", "digest", "--compact", persist / file.path)
        assert told.strip() == file.verity
    for name in (layout.LAYERS_DIR, layout.PINS_DIR, layout.LOG_DIR, layout.PACKAGES_DIR):
        assert (persist / name).is_dir()
    microcode = persist / layout.PACKAGES_DIR / "microcode/intel-ucode.img"
    assert microcode.read_bytes() == MICROCODE, "for the initramfs of each later kernel"
    assert (persist / layout.USER_DIR).stat().st_uid == 1000
    assert (persist / layout.LOG_DIR).stat().st_mode & 0o777 == 0o700


def test_swapfile_has_no_holes(persist: Path) -> None:
    swapfile = persist / layout.SWAPFILE
    info = swapfile.stat()
    assert info.st_size == SWAP_BYTES
    assert info.st_mode & 0o777 == 0o600
    assert info.st_blocks * 512 >= SWAP_BYTES
    assert 'TYPE="swap"' in tool("blkid", "-p", swapfile)


def test_two_assemblies_are_bit_identical(made: Made, tmp_path: Path) -> None:
    again = make_image(tmp_path / "again")
    assert again.image.stat().st_ino != made.image.stat().st_ino
    tool("cmp", made.image, again.image)


def test_another_seed_makes_another_stick(made: Made) -> None:
    other = partitions.make_identity("another")
    mine = dataclasses.asdict(made.identity)
    for name, value in dataclasses.asdict(other).items():
        assert isinstance(value, uuid.UUID | int)
        assert value != mine[name]


def test_a_persist_that_is_too_small_is_an_error(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "large").write_bytes(b"x" * (32 * MIB))
    with pytest.raises(RamosError, match="mke2fs"):
        partitions.make_persist(
            tmp_path / "fs", 16 * MIB, content, partitions.make_identity(""), EPOCH
        )


def test_a_swapfile_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    """debugfs ends with 0 when it fails: its words are what counts."""
    content = tmp_path / "content"
    content.mkdir()
    identity = partitions.make_identity("")
    partitions.make_swapfile(content / layout.SWAPFILE, 64 * MIB, identity.hash_seed)
    with pytest.raises(RamosError, match="debugfs"):
        partitions.make_persist(tmp_path / "fs", 32 * MIB, content, identity, EPOCH, 64 * MIB)
