"""Making persist as large as the stick it is on.

Owns: the growth of partition 2, of the LUKS mapping in it and of its ext4, in that order. Refuses:
shrinking, and a disk that is not laid out as a RAMOS stick. Invariant: each step can be repeated;
a cut between two steps leaves a file system smaller than its partition, which works.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.errors import RamosError, RefusedError
from ramos.linux.run import run
from ramos.stick.luks import HEADER_BYTES

PERSIST_NUMBER = 2
SECTOR_BYTES = 512
ALIGN_SECTORS = (8 << 20) // SECTOR_BYTES
BACKUP_TABLE_SECTORS = 34


@dataclass(frozen=True)
class Partition:
    """Where persist lies on its disk."""

    start_bytes: int
    size_bytes: int


def read_persist_partition(disk: Path) -> Partition:
    """The partition that holds persist, from the partition table itself."""
    done = run(["sfdisk", "--json", str(disk)], check=False)
    if done.code != 0:
        raise _not_a_stick(disk, done.complaint)
    table = json.loads(done.stdout)["partitiontable"]
    parts = table.get("partitions", [])
    if table.get("label") != "gpt" or len(parts) < PERSIST_NUMBER:
        raise _not_a_stick(disk, "it has no GPT with a persist partition")
    part = parts[PERSIST_NUMBER - 1]
    size = int(table.get("sectorsize", SECTOR_BYTES))
    return Partition(int(part["start"]) * size, int(part["size"]) * size)


def plan_partition(disk_bytes: int, current: Partition) -> Partition:
    """The largest partition at the same start; its end is aligned, and never moves down."""
    usable = disk_bytes // SECTOR_BYTES - BACKUP_TABLE_SECTORS
    end = usable // ALIGN_SECTORS * ALIGN_SECTORS * SECTOR_BYTES
    return Partition(current.start_bytes, max(current.size_bytes, end - current.start_bytes))


def grow_partition(disk: Path, disk_bytes: int) -> Partition:
    """Move the backup partition table to the end of the disk and extend persist up to it."""
    current = read_persist_partition(disk)
    wanted = plan_partition(disk_bytes, current)
    if wanted != current:
        start, size = (n // SECTOR_BYTES for n in (wanted.start_bytes, wanted.size_bytes))
        run(["sfdisk", "--relocate", "gpt-bak-std", "--no-reread", "--no-tell-kernel", str(disk)])
        argv = ["sfdisk", "--no-reread", "--no-tell-kernel", "--partno", str(PERSIST_NUMBER)]
        run([*argv, str(disk)], stdin=f"start={start}, size={size}\n".encode())
    return wanted


def grow_unmounted(disk: Path, partition: Partition) -> bool:
    """Extend the ext4 of a disk that is not in use; False where it is encrypted."""
    argv = ["losetup", "--find", "--show", "--offset", str(partition.start_bytes)]
    loop = run([*argv, "--sizelimit", str(partition.size_bytes), str(disk)]).text
    try:
        if run(["cryptsetup", "isLuks", loop], check=False).code == 0:
            return False
        checked = run(["e2fsck", "-f", "-p", loop], check=False)
        if checked.code > 1:
            raise RamosError("cannot grow", disk, f"its persist is damaged: {checked.complaint}")
        run(["resize2fs", loop])
        return True
    finally:
        run(["losetup", "--detach", loop], check=False)


def grow_running(
    device: Path, disk: Path, disk_bytes: int, ask_passphrase: Callable[[], bytes]
) -> int:
    """Extend the persist that this system runs from; gives back its new size in bytes."""
    partition = grow_partition(disk, disk_bytes)
    run(["partx", "--update", "--nr", str(PERSIST_NUMBER), str(disk)])
    if device.parent.name == "mapper" and _read_size(device) < partition.size_bytes - HEADER_BYTES:
        run(["cryptsetup", "resize", device.name, "--key-file", "-"], stdin=ask_passphrase())
    run(["resize2fs", str(device)])
    return _read_size(device)


def _read_size(device: Path) -> int:
    return int(run(["blockdev", "--getsize64", str(device)]).text)


def _not_a_stick(disk: Path, reason: str) -> RamosError:
    return RefusedError(
        "cannot grow",
        disk,
        reason,
        hint=f"A stick has an ESP and a partition named {layout.PERSIST_LABEL}.",
    )
