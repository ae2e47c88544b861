"""One image file: the partition table, the ESP and persist, without root and without loop mounts.

Owns: where partitions lie, and how each is made as a file and put in its place. Refuses: knowing
what a system consists of (it is given files). Invariants: partitions are aligned to 8 MiB; with
the same inputs, identity and epoch, two images are bit-identical.

    1 MiB    partition 3: GRUB for BIOS (core.img, no file system)
    8 MiB    partition 1: ESP, FAT32
    280 MiB  partition 2: persist, ext4, up to the end
"""

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.image.grub import BiosGrub
from ramos.image.plan import ALIGNMENT_BYTES, ESP_BYTES
from ramos.linux import fs, run
from ramos.sizes import MIB
from ramos.stick import luks

SECTOR_BYTES = 512
BIOS_START_BYTES = MIB
ESP_CLUSTER_SECTORS = 8
TYPE_ESP = "ef00"
TYPE_LINUX = "8300"
TYPE_BIOS = "ef02"
SWAP_PAGE_BYTES = 4096
# Named in full: what mke2fs would choose by itself differs from machine to machine.
EXT4_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,"
    "large_file,huge_file,dir_nlink,extra_isize,metadata_csum,verity"
)
EXT4_OPTIONS = "lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0"
TOOLS = ("sgdisk", "mkfs.vfat", "mmd", "mcopy", "mke2fs", "debugfs", "mkswap")


@dataclass(frozen=True)
class DiskLayout:
    """Where the partitions lie, in bytes."""

    size_bytes: int
    esp_start: int = ALIGNMENT_BYTES
    esp_bytes: int = ESP_BYTES

    @property
    def persist_start(self) -> int:
        """Persist begins where the ESP ends."""
        return self.esp_start + self.esp_bytes

    @property
    def persist_bytes(self) -> int:
        """All the rest, but for the second partition table at the end."""
        return self.size_bytes - ALIGNMENT_BYTES - self.persist_start


@dataclass(frozen=True)
class Identifiers:
    """Every identifier of one stick."""

    disk: uuid.UUID
    esp_part: uuid.UUID
    persist_part: uuid.UUID
    bios_part: uuid.UUID
    persist: uuid.UUID
    luks: uuid.UUID
    hash_seed: uuid.UUID
    esp_serial: int

    @property
    def esp_uuid(self) -> str:
        """The ESP's serial as blkid and GRUB write it."""
        return f"{self.esp_serial >> 16:04X}-{self.esp_serial & 0xFFFF:04X}"


def make_identity(seed: str) -> Identifiers:
    """Identifiers from a seed: the same seed gives the same stick; an empty one a new stick."""
    space = uuid.uuid5(uuid.NAMESPACE_URL, seed) if seed else uuid.uuid4()
    return Identifiers(
        disk=uuid.uuid5(space, "disk"),
        esp_part=uuid.uuid5(space, "esp-part"),
        persist_part=uuid.uuid5(space, "persist-part"),
        bios_part=uuid.uuid5(space, "bios-part"),
        persist=uuid.uuid5(space, "persist"),
        luks=uuid.uuid5(space, "luks"),
        hash_seed=uuid.uuid5(space, "hash-seed"),
        esp_serial=uuid.uuid5(space, "esp").int & 0xFFFFFFFF or 1,
    )


def make_esp(
    path: Path, size_bytes: int, files: Mapping[str, Path], serial: int, epoch: int
) -> None:
    """A FAT32 file system in a file, with the given files (name below its root -> source)."""
    env = {"SOURCE_DATE_EPOCH": str(epoch), "TZ": "UTC", "MTOOLS_SKIP_CHECK": "1"}
    with path.open("wb") as file:
        file.truncate(size_bytes)
    # --invariant sets the serial number too, so -i comes after it.
    argv = ["mkfs.vfat", "--invariant", "-i", f"{serial:08x}", "-F", "32"]
    argv += ["-s", str(ESP_CLUSTER_SECTORS), "-n", layout.ESP_LABEL, str(path)]
    run.run(argv, env=env)
    folders = {parent.as_posix() for name in files for parent in Path(name).parents} - {"."}
    if folders:
        run.run(["mmd", "-i", path, *(f"::{name}" for name in sorted(folders))], env=env)
    for name, source in sorted(files.items()):
        run.run(["mcopy", "-i", path, source, f"::{name}"], env=env)


def make_persist(
    path: Path,
    size_bytes: int,
    content: Path,
    identity: Identifiers,
    epoch: int,
    swap_bytes: int = 0,
) -> None:
    """An ext4 file system in a file, with a copy of the directory `content`."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    env = {"E2FSPROGS_FAKE_TIME": str(epoch), "MKE2FS_CONFIG": "/dev/null"}
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0"]
    argv += ["-i", "65536", "-O", EXT4_FEATURES, "-E"]
    argv += [f"{EXT4_OPTIONS},hash_seed={identity.hash_seed}"]
    argv += ["-U", str(identity.persist), "-L", layout.PERSIST_LABEL, "-d", str(content)]
    run.run([*argv, str(path), f"{size_bytes // 1024}k"], env=env)
    names = ["/", "/lost+found"]
    names += [f"/{entry.relative_to(content)}" for entry in sorted(content.rglob("*"))]
    commands = [
        f"set_inode_field {name} {field} @{epoch}"
        for name in names
        for field in ("atime", "ctime", "mtime", "crtime")
    ]
    if swap_bytes:
        last_block = swap_bytes // SWAP_PAGE_BYTES - 1
        commands.append(f"fallocate /{layout.SWAPFILE} 0 {last_block}")
    _debugfs(path, commands, env)


def encrypt_persist(path: Path, passphrase: bytes, memory_mib: int, identity: Identifiers) -> None:
    """Put LUKS2 around a file system in a file, which grows by the header."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + luks.HEADER_BYTES)
    luks.encrypt_file(path, passphrase, memory_mib, str(identity.luks))


def _debugfs(path: Path, commands: list[str], env: Mapping[str, str]) -> None:
    """Edit a file system in a file; debugfs ends with 0 whatever happened, but says what did."""
    script = path.with_name(path.name + ".commands")
    script.write_text("".join(f"{line}\n" for line in commands), encoding="utf-8")
    try:
        done = run.run(["debugfs", "-w", "-f", script, path], env=env)
    finally:
        script.unlink()
    said = [line for line in done.stderr.decode().splitlines() if not line.startswith("debugfs ")]
    if said:
        raise run.failure(["debugfs"], run.Result(1, b"", "\n".join(said).encode()))


def make_swapfile(path: Path, size_bytes: int, identity: uuid.UUID) -> None:
    """A swap area as a file: its header is written here, its blocks come with the file system."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    path.chmod(0o600)
    run.run(["mkswap", "--uuid", str(identity), "--label", "ramos-swap", path])


def make_table(path: Path, disk: DiskLayout, identity: Identifiers) -> None:
    """Write the GPT of an image."""
    argv = ["sgdisk", "--set-alignment=2048", f"--disk-guid={identity.disk}"]
    parts = (
        (3, BIOS_START_BYTES, disk.esp_start, TYPE_BIOS, "ramos-bios", identity.bios_part),
        (1, disk.esp_start, disk.persist_start, TYPE_ESP, layout.ESP_LABEL, identity.esp_part),
        (
            2,
            disk.persist_start,
            disk.persist_start + disk.persist_bytes,
            TYPE_LINUX,
            layout.PERSIST_LABEL,
            identity.persist_part,
        ),
    )
    for number, start, end, kind, label, part in parts:
        argv.append(f"--new={number}:{start // SECTOR_BYTES}:{end // SECTOR_BYTES - 1}")
        argv += [f"--typecode={number}:{kind}", f"--change-name={number}:{label}"]
        argv.append(f"--partition-guid={number}:{part}")
    run.run([*argv, str(path)])


def copy_into(source: Path, image: Path, offset: int) -> None:
    """Copy a file into the image at an offset; what is a hole in it stays a hole."""
    with source.open("rb", buffering=0) as reader, image.open("r+b", buffering=0) as writer:
        size_bytes = os.fstat(reader.fileno()).st_size
        position = 0
        while position < size_bytes:
            try:
                start = os.lseek(reader.fileno(), position, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            _copy_range(reader.fileno(), writer.fileno(), start, end, offset)
            position = end


def _copy_range(reader: int, writer: int, start: int, end: int, offset: int) -> None:
    while start < end:
        data = os.pread(reader, min(fs.CHUNK_BYTES, end - start), start)
        written = 0
        while written < len(data):
            written += os.pwrite(writer, data[written:], offset + start + written)
        start += len(data)


@dataclass(frozen=True)
class DiskParts:
    """What an image is put together from: finished file systems, and GRUB for BIOS."""

    esp: Path
    persist: Path
    bios: BiosGrub


def assemble(
    output: Path,
    disk: DiskLayout,
    parts: DiskParts,
    identity: Identifiers,
) -> None:
    """Put an image together at `output`, which is a temporary name of the caller's."""
    with output.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)  # there are password hashes in it
        file.truncate(disk.size_bytes)
    make_table(output, disk, identity)
    with output.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), parts.bios.core, BIOS_START_BYTES)
        os.pwrite(file.fileno(), parts.bios.boot_code, 0)
    copy_into(parts.esp, output, disk.esp_start)
    copy_into(parts.persist, output, disk.persist_start)
