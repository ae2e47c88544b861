"""What wakes ramosd: signals, memory pressure, buttons, disks, batteries, mounts, who reports.

Owns: opening each source, and one reader for each descriptor. Refuses: knowing what an event
means: a source calls whom it was given. Invariant: nothing that it reads is waited for.
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pyudev

from ramos.daemon import buttons, swap
from ramos.daemon.events import BatteryChanged

MOUNTS = Path("/proc/self/mountinfo")
UDEV_CONTROL = Path("/run/udev/control")
# Where a battery has no percents, or calls itself low above ours.
LEVELS = {"Critical": 5, "Low": 10}
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Sources:
    """Descriptors, and what reads from each of them when it has something."""

    def __init__(self) -> None:
        self.poller = select.poll()
        self.readers: dict[int, Callable[[], None]] = {}

    def listen(
        self, descriptor: int, reader: Callable[[], None], mask: int = select.POLLIN
    ) -> None:
        """Be woken by a descriptor from now on."""
        self.readers[descriptor] = reader
        self.poller.register(descriptor, mask)

    def forget(self, descriptor: int) -> None:
        """It has no more to say."""
        self.poller.unregister(descriptor)
        del self.readers[descriptor]

    def wait(self, seconds: float) -> None:
        """Sleep until something stirs, and let it be read."""
        for descriptor, _ in self.poller.poll(int(seconds * 1000) + 1):
            reader = self.readers.get(descriptor)
            if reader is not None:
                reader()


def open_signals(sources: Sources, on_signal: Callable[[int], None]) -> None:
    """The number of each signal that asks for something."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)

    def read_signals() -> None:
        for number in os.read(reader, 64):
            on_signal(number)

    sources.listen(reader, read_signals)


def open_pressure(sources: Sources, on_pressure: Callable[[], None]) -> None:
    """The kernel wakes us when programs wait for memory. Raises OSError where it cannot."""
    sources.listen(swap.open_pressure(), on_pressure, select.POLLPRI)


def open_buttons(
    sources: Sources, on_press: Callable[[], None], on_close: Callable[[], None]
) -> None:
    """Each press of a power button, and each time that the lid is shut."""
    for descriptor in buttons.open_buttons():
        _listen_to(sources, descriptor, buttons.is_pressed, on_press)
    for descriptor in buttons.open_lids():
        _listen_to(sources, descriptor, buttons.is_closed, on_close)


def _listen_to(
    sources: Sources, device: int, is_it: Callable[[bytes], bool], on_it: Callable[[], None]
) -> None:
    def read_device() -> None:
        with contextlib.suppress(BlockingIOError):
            if is_it(os.read(device, 4096)):
                on_it()

    sources.listen(device, read_device)


def open_mounts(sources: Sources, on_change: Callable[[], None]) -> None:
    """Something was mounted or unmounted."""
    descriptor = os.open(MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
    sources.listen(descriptor, on_change, select.POLLPRI | select.POLLERR)


def open_udev(
    sources: Sources,
    on_device: Callable[[str, str | None], None],
    on_battery: Callable[[BatteryChanged], None],
) -> None:
    """What happens to each block device (the action, and its node), and to each battery."""
    source = "udev" if UDEV_CONTROL.exists() else "kernel"
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source=source)
    monitor.filter_by("block")
    monitor.filter_by("power_supply")
    monitor.start()

    def read_devices() -> None:
        while (device := monitor.poll(timeout=0)) is not None:
            if device.subsystem == "block":
                on_device(device.action, device.device_node)
            elif (battery := read_battery(device.properties)) is not None:
                on_battery(battery)

    sources.listen(monitor.fileno(), read_devices)


def read_battery(properties: Mapping[str, str]) -> BatteryChanged | None:
    """How the battery that an event is about is; None for all that the machine does not run on."""
    words = {
        key.removeprefix("POWER_SUPPLY_").lower(): value
        for key, value in properties.items()
        if key.startswith("POWER_SUPPLY_")
    }
    if words.get("type") != "Battery" or words.get("scope", "System") == "Device":
        return None
    level = LEVELS.get(words.get("capacity_level", ""))
    capacity = words.get("capacity", "")
    percent = int(capacity) if capacity.isascii() and capacity.isdigit() else level
    if percent is None:
        return None
    return BatteryChanged(min(percent, level or percent), words.get("status") == "Discharging")
