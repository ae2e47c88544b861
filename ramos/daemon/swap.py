"""Swap: compressed RAM first, the stick's swapfile only in need.

Owns: what is swapped to, and reading how much memory is left. Refuses: deciding when (`pressure`
does). Invariants: the zram of the swap is at most a quarter of the RAM, with a limit on what it may
really take; the swapfile has no holes and is readable by root only.
"""

import contextlib
import os
from pathlib import Path

from ramos import layout
from ramos.config import MemoryConfig
from ramos.daemon import pressure
from ramos.daemon.pressure import Memory
from ramos.errors import RamosError
from ramos.linux import run, syscalls

MEMINFO = Path("/proc/meminfo")
PRESSURE = Path("/proc/pressure/memory")
# Stalls of a tenth of a second within one; without CAP_SYS_RESOURCE only two seconds are allowed.
PRESSURE_TRIGGERS = (b"some 100000 1000000\0", b"some 200000 2000000\0")
SWAPS = Path("/proc/swaps")
SWAPPINESS = Path("/proc/sys/vm/swappiness")
ZRAM_ADD = Path("/sys/class/zram-control/hot_add")
ZRAM_MARK = layout.RUN_DIR / "zram-swap"
ZRAM_SHARE = 4
ZRAM_PRIORITY = 100
FILE_PRIORITY = 1
SWAPFILE = layout.PERSIST_DIR / layout.SWAPFILE


def read_memory(swapfile: Path = SWAPFILE) -> Memory:
    """How much there is, how much is left, and what lies in the swapfile."""
    values: dict[str, int] = {}
    for line in MEMINFO.read_text(encoding="ascii").splitlines():
        key, _, rest = line.partition(":")
        values[key] = int(rest.split()[0])
    total = values["MemTotal"]
    available = values.get("MemAvailable", values["MemFree"])
    return Memory(total, available, read_swaps().get(str(swapfile), 0))


def has_room(size_bytes: int) -> bool:
    """Whether copies of that size can be kept in RAM, as things are now."""
    return pressure.has_room(read_memory(), size_bytes)


def read_swaps(path: Path = SWAPS) -> dict[str, int]:
    """What is swapped to, and the KiB in use of each."""
    used = {}
    with contextlib.suppress(OSError):
        for line in path.read_text(errors="replace").splitlines()[1:]:
            words = line.split()
            if len(words) >= 4:
                used[words[0].removesuffix("\\040(deleted)")] = int(words[3])
    return used


def open_pressure() -> int:
    """A descriptor that the kernel marks (POLLPRI) while programs wait for memory."""
    error = OSError()
    for trigger in PRESSURE_TRIGGERS:
        descriptor = os.open(PRESSURE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(descriptor, trigger)
        except OSError as refused:
            os.close(descriptor)
            error = refused
            continue
        return descriptor
    raise error


def start_swapfile(path: Path = SWAPFILE) -> None:
    """Use the swapfile on the stick."""
    if str(path) in read_swaps():
        return
    try:
        status = path.stat()
        if status.st_mode & 0o077 or status.st_uid != 0:
            raise RamosError("cannot swap to", path, "others than root could read it")
        syscalls.swap_on(path, FILE_PRIORITY)
    except OSError as error:
        raise RamosError("cannot swap to", path, error) from error


def stop_swapfile(path: Path = SWAPFILE) -> None:
    """Bring everything back from the swapfile."""
    if str(path) not in read_swaps():
        return
    try:
        syscalls.swap_off(path)
    except OSError as error:
        state = "It is still in use"
        raise RamosError("cannot stop swapping to", path, error, state) from error


def start_zram_swap(total_kib: int) -> None:
    """Make the swap in compressed RAM, once a boot."""
    if ZRAM_MARK.exists():
        return
    run.run(["modprobe", "zram", "num_devices=0"], check=False)
    try:
        number = int(ZRAM_ADD.read_text(encoding="ascii"))
        settings = Path(f"/sys/block/zram{number}")
        size_kib = total_kib // ZRAM_SHARE
        with contextlib.suppress(OSError):
            (settings / "comp_algorithm").write_text("lz4")
        (settings / "disksize").write_text(f"{size_kib}K")
        (settings / "mem_limit").write_text(f"{size_kib}K")
        node = Path(f"/dev/zram{number}")
        run.run(["mkswap", node])
        syscalls.swap_on(node, ZRAM_PRIORITY)
    except (OSError, ValueError) as error:
        raise RamosError("cannot swap to compressed RAM", "zram", error) from error
    ZRAM_MARK.parent.mkdir(parents=True, exist_ok=True)
    ZRAM_MARK.write_text(f"{node}\n")


def apply_settings(config: MemoryConfig, total_kib: int) -> None:
    """What is set up once: swappiness and the swap in RAM."""
    with contextlib.suppress(OSError):
        if int(SWAPPINESS.read_text()) != config.swappiness:
            SWAPPINESS.write_text(str(config.swappiness))
    if config.zram_swap:
        start_zram_swap(total_kib)


def read_fill_percent(upper: Path) -> float:
    """How full the room for changes is."""
    try:
        space = os.statvfs(upper)
    except OSError:
        return 0.0
    used = space.f_blocks - space.f_bavail
    return 100 * used / space.f_blocks if space.f_blocks else 0.0
