"""Identities of its own for each stick that is written from one image.

Owns: where an image holds its GUIDs, UUIDs and serial numbers, the checksums over them, and the
words of the boot menu that name them. Refuses: writing. Invariants: a change has the length of what
it replaces, and no two overlap; what is not laid out as a RAMOS stick is not changed at all.

Persist inside LUKS keeps its own UUID, which nobody sees without the passphrase: the boot looks for
the one around it.
"""

import hashlib
import mmap
import struct
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

from ramos.image.partitions import SECTOR_BYTES, Identifiers
from ramos.image.write import Patch

ESP_NUMBER, PERSIST_NUMBER, BIOS_NUMBER = 1, 2, 3
GPT_MAGIC = b"EFI PART"
ENTRY_GUID = slice(16, 32)
LUKS_MAGICS = (b"LUKS\xba\xbe\0\2", b"SKUL\xba\xbe\0\2")
LUKS_UUID, LUKS_SUM = slice(168, 208), slice(448, 512)
EXT_MAGIC = 0xEF53
SUPERBLOCK_BYTES = 1024
EXT_UUID, EXT_SEED_AT, EXT_SUM_AT = slice(104, 120), 0x270, 0x3FC
METADATA_CSUM, CSUM_SEED = 0x400, 0x2000
CRC32C_POLYNOMIAL = 0x82F63B78


def plan_changes(image: Path, fresh: Identifiers) -> tuple[Patch, ...]:
    """What to write in place of an image's identities, by offset."""
    with image.open("rb") as file:
        if file.seek(0, 2) < 2 * SECTOR_BYTES:
            return ()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return tuple(sorted(_list_changes(data, fresh)))


def _list_changes(data: mmap.mmap, fresh: Identifiers) -> Iterator[Patch]:
    starts = _read_starts(data)
    if not {ESP_NUMBER, PERSIST_NUMBER} <= starts.keys():
        return
    esp, persist = starts[ESP_NUMBER], starts[PERSIST_NUMBER]
    yield from _change_table(data, fresh)
    yield from _change_fat(data, esp, fresh.esp_serial)
    if data[persist : persist + 8] == LUKS_MAGICS[0]:
        old = data[persist : persist + 208][LUKS_UUID].rstrip(b"\0")
        yield from _change_luks(data, persist, str(fresh.luks).encode("ascii"))
        words = b"ramos.luks=UUID=", old, str(fresh.luks).encode("ascii")
    else:
        first = data[persist + 1024 : persist + 1024 + SUPERBLOCK_BYTES]
        old = str(uuid.UUID(bytes=first[EXT_UUID])).encode("ascii")
        yield from _change_ext4(data, persist, fresh.persist.bytes)
        words = b"ramos.persist=UUID=", old, str(fresh.persist).encode("ascii")
    yield from _change_words(data, esp, persist, *words)


def _read_starts(data: mmap.mmap) -> dict[int, int]:
    """Where each partition begins, in bytes; nothing where there is no GPT."""
    if data[SECTOR_BYTES : SECTOR_BYTES + 8] != GPT_MAGIC:
        return {}
    header_bytes, seen = struct.unpack_from("<II", data, SECTOR_BYTES + 12)
    header = bytearray(data[SECTOR_BYTES : SECTOR_BYTES + min(header_bytes, SECTOR_BYTES)])
    struct.pack_into("<I", header, 16, 0)
    if zlib.crc32(header) != seen:
        return {}
    lba, count, size = struct.unpack_from("<QII", header, 72)
    starts = {}
    for number in range(1, count + 1):
        at = lba * SECTOR_BYTES + (number - 1) * size
        if data[at : at + 16] != bytes(16):
            starts[number] = struct.unpack_from("<Q", data, at + 32)[0] * SECTOR_BYTES
    return starts


def _change_table(data: mmap.mmap, fresh: Identifiers) -> Iterator[Patch]:
    """Both partition tables: the GUIDs of the disk and of each partition."""
    guids = {
        ESP_NUMBER: fresh.esp_part,
        PERSIST_NUMBER: fresh.persist_part,
        BIOS_NUMBER: fresh.bios_part,
    }
    for at in (SECTOR_BYTES, struct.unpack_from("<Q", data, SECTOR_BYTES + 32)[0] * SECTOR_BYTES):
        header_bytes = struct.unpack_from("<I", data, at + 12)[0]
        header = bytearray(data[at : at + header_bytes])
        lba, count, size = struct.unpack_from("<QII", header, 72)
        entries = bytearray(data[lba * SECTOR_BYTES : lba * SECTOR_BYTES + count * size])
        for number, guid in guids.items():
            entry = memoryview(entries)[(number - 1) * size : number * size]
            if bytes(entry[:16]) != bytes(16):
                entry[ENTRY_GUID] = guid.bytes_le
        header[56:72] = fresh.disk.bytes_le
        struct.pack_into("<I", header, 88, zlib.crc32(entries))
        struct.pack_into("<I", header, 16, 0)
        struct.pack_into("<I", header, 16, zlib.crc32(header))
        yield at, bytes(header)
        yield lba * SECTOR_BYTES, bytes(entries)


def _change_fat(data: mmap.mmap, start: int, serial: int) -> Iterator[Patch]:
    """The volume's serial number, in the first sector and in its spare copy."""
    if data[start + 82 : start + 90] != b"FAT32   ":
        return
    spare = struct.unpack_from("<H", data, start + 50)[0]
    for sector in (0, spare):
        yield start + sector * SECTOR_BYTES + 67, struct.pack("<I", serial)


def _change_luks(data: mmap.mmap, start: int, text: bytes) -> Iterator[Patch]:
    """Both headers of LUKS2: the checksum of each is over its JSON area, too."""
    size = struct.unpack_from(">Q", data, start + 8)[0]
    for at, magic in zip((start, start + size), LUKS_MAGICS, strict=True):
        header = bytearray(data[at : at + size])
        if header[:8] != magic:
            continue
        name = bytes(header[72:104]).rstrip(b"\0").decode("ascii")
        header[LUKS_UUID] = text.ljust(40, b"\0")
        header[LUKS_SUM] = bytes(64)
        header[LUKS_SUM] = hashlib.new(name, header).digest().ljust(64, b"\0")
        yield at, bytes(header[:4096])


def _change_ext4(data: mmap.mmap, start: int, new: bytes) -> Iterator[Patch]:
    """Each copy of the superblock.

    The checksums of everything else begin with one over the UUID as it was when they were made:
    from now on that seed stands in the superblock itself.
    """
    first = data[start + 1024 : start + 1024 + SUPERBLOCK_BYTES]
    log_block_bytes, blocks_per_group = struct.unpack_from("<I4xI", first, 24)
    blocks, data_block = struct.unpack_from("<I", first, 4)[0], first[20]
    flags = struct.unpack_from("<I", first, 100)[0]
    if struct.unpack_from("<H", first, 56)[0] != EXT_MAGIC or not flags & METADATA_CSUM:
        return
    groups = -(-(blocks - data_block) // blocks_per_group)
    for group in range(groups):
        block = group * blocks_per_group + data_block
        at = start + (block * (1024 << log_block_bytes) if group else 1024)
        copy = bytearray(data[at : at + SUPERBLOCK_BYTES])
        same = copy[EXT_UUID] == first[EXT_UUID]
        if not same or struct.unpack_from("<H", copy, 56)[0] != EXT_MAGIC:
            continue
        incompatible = struct.unpack_from("<I", copy, 96)[0]
        if not incompatible & CSUM_SEED:
            struct.pack_into("<I", copy, EXT_SEED_AT, sum_crc32c(bytes(copy[EXT_UUID])))
            struct.pack_into("<I", copy, 96, incompatible | CSUM_SEED)
        copy[EXT_UUID] = new
        struct.pack_into("<I", copy, EXT_SUM_AT, sum_crc32c(bytes(copy[:EXT_SUM_AT])))
        yield at, bytes(copy)


def _change_words(
    data: mmap.mmap, start: int, end: int, word: bytes, old: bytes, new: bytes
) -> Iterator[Patch]:
    """A kernel parameter that names persist, wherever the ESP has it: the menu is a file there."""
    at = data.find(word + old, start, end)
    while at >= 0:
        yield at + len(word), new
        at = data.find(word + old, at + 1, end)


def sum_crc32c(data: bytes) -> int:
    """CRC-32C as ext4 stores it: begun with all ones, not inverted at the end."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (CRC32C_POLYNOMIAL if value & 1 else 0)
    return value
