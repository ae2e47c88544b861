"""The power button, where no logind watches it, and the lid.

Owns: finding these input devices, and reading what they say. Refuses: reading any key that is
typed: only devices that call themselves a power button or a lid are opened. Invariants: with
systemd it keeps out of the way of the power button; a lid can be read by several.
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

INPUT = Path("/sys/class/input")
DEVICES = Path("/dev/input")
SYSTEMD_MARK = Path("/run/systemd/system")
BUTTON_NAME = "Power Button"
LID_NAME = "Lid Switch"
EVENT = struct.Struct("llHHi")
EV_KEY, EV_SWITCH = 1, 5
KEY_POWER = 116
SWITCH_LID = 0
# Down, or shut: what a key and a switch say when somebody does something.
PRESSED = (EV_KEY, KEY_POWER, 1)
CLOSED = (EV_SWITCH, SWITCH_LID, 1)


def open_buttons(inputs: Path = INPUT, devices: Path = DEVICES) -> list[int]:
    """A descriptor for each power button of the machine."""
    return [] if SYSTEMD_MARK.exists() else open_named(BUTTON_NAME, inputs, devices)


def open_lids(inputs: Path = INPUT, devices: Path = DEVICES) -> list[int]:
    """A descriptor for each lid of the machine."""
    return open_named(LID_NAME, inputs, devices)


def open_named(name: str, inputs: Path, devices: Path) -> list[int]:
    """The input devices of a name."""
    found = []
    for entry in sorted(inputs.glob("event*")):
        with contextlib.suppress(OSError):
            if (entry / "device/name").read_text(errors="replace").strip() == name:
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                found.append(os.open(devices / entry.name, flags))
    return found


def is_pressed(data: bytes) -> bool:
    """Whether the events of one read hold a press of the power key."""
    return PRESSED in _read_events(data)


def is_closed(data: bytes) -> bool:
    """Whether they tell that the lid was shut."""
    return CLOSED in _read_events(data)


def _read_events(data: bytes) -> Iterator[tuple[int, int, int]]:
    whole = len(data) - len(data) % EVENT.size
    for _, _, kind, code, value in EVENT.iter_unpack(data[:whole]):
        yield kind, code, value
