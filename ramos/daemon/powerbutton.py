"""The power button, where no logind watches it.

Owns: finding the buttons and reading their presses. Refuses: reading any other key: only devices
that call themselves a power button are opened. Invariant: with systemd it stays out of the way.
"""

import contextlib
import os
import struct
from pathlib import Path

INPUT = Path("/sys/class/input")
SYSTEMD_MARK = Path("/run/systemd/system")
NAME = "Power Button"
EVENT = struct.Struct("llHHi")
EV_KEY = 1
KEY_POWER = 116


def open_buttons(inputs: Path = INPUT) -> list[int]:
    """A descriptor for each power button of the machine."""
    if SYSTEMD_MARK.exists():
        return []
    found = []
    for entry in sorted(inputs.glob("event*")):
        with contextlib.suppress(OSError):
            if (entry / "device/name").read_text(errors="replace").strip() == NAME:
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                found.append(os.open(Path("/dev/input", entry.name), flags))
    return found


def is_pressed(data: bytes) -> bool:
    """Whether the events of one read hold a press of the power key."""
    whole = len(data) - len(data) % EVENT.size
    events = EVENT.iter_unpack(data[:whole])
    return any((kind, code, value) == (EV_KEY, KEY_POWER, 1) for _, _, kind, code, value in events)
