"""Speaking to the people at the machine: every console, and every terminal with a session.

Owns: which terminals there are, and writing to and reading keys from them. Refuses: waiting for a
terminal that does not take what is written (a stopped one must not stop the system). Invariants: a
terminal that cannot be opened is passed over; a message is escaped before it is written.
"""

import contextlib
import os
import re
import select
import termios
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ramos.errors import escape

PROC = Path("/proc")
DEVICES = Path("/sys/dev/char")
ACTIVE_CONSOLES = Path("/sys/class/tty/console/active")
# Plain colours, and lines that wrap.
NORMAL_TEXT = b"\x1b[0m\x1b[?7h"
PTS_MAJORS = range(136, 144)


def list_consoles(active: Path = ACTIVE_CONSOLES) -> list[Path]:
    """The devices that the kernel prints on."""
    try:
        names = active.read_text(encoding="ascii").split()
    except OSError:
        names = []
    return [Path("/dev", name) for name in names] or [Path("/dev/console")]


def list_sessions(proc: Path = PROC) -> list[Path]:
    """The terminals that some process has as its controlling terminal."""
    numbers: set[int] = set()
    for entry in os.scandir(proc):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = Path(entry.path, "stat").read_bytes()
                numbers.add(int(stat.rpartition(b")")[2].split()[4]))
    return sorted(path for number in numbers if (path := _find_terminal(number)))


def _find_terminal(number: int) -> Path | None:
    """The device of a terminal number as /proc/PID/stat gives it (0: none)."""
    major, minor = os.major(number), os.minor(number)
    if number <= 0:
        return None
    if major in PTS_MAJORS:
        return Path("/dev/pts", str((major - PTS_MAJORS[0]) * 256 + minor))
    try:
        text = (DEVICES / f"{major}:{minor}/uevent").read_text(encoding="ascii")
    except OSError:
        return None
    match = re.search(r"^DEVNAME=(.+)$", text, re.MULTILINE)
    return Path("/dev", match[1]) if match else None


def tell_everyone(text: str, terminals: Iterable[Path] | None = None) -> int:
    """Write a message to every terminal with a session and every console; how many took it."""
    found = [*list_sessions(), *list_consoles()] if terminals is None else terminals
    targets = {resolve_console(path) for path in found}
    line = f"\r\nRAMOS: {escape(text)}\r\n".encode()
    return sum(write_terminal(path, line) for path in sorted(targets))


def resolve_console(path: Path, consoles: Path = ACTIVE_CONSOLES) -> Path:
    """The terminal behind /dev/console or /dev/tty0, so that nobody is told twice."""
    if path == Path("/dev/console"):
        path = list_consoles(consoles)[-1]
    if path == Path("/dev/tty0"):
        try:
            return Path("/dev", consoles.parents[1].joinpath("tty0/active").read_text().strip())
        except OSError:
            return path
    return path


def write_terminal(path: Path, data: bytes) -> bool:
    """Write without ever waiting; whether it was taken."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.write(descriptor, data) > 0
    except OSError:
        return False
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_keys(paths: Sequence[Path]) -> Iterator[list[int]]:
    """Descriptors that give each key as it is pressed, on every one of the terminals."""
    opened: list[tuple[int, list[object]]] = []
    try:
        for path in paths:
            with contextlib.suppress(OSError, termios.error):
                descriptor = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
                try:
                    before = termios.tcgetattr(descriptor)
                    _set_key_mode(descriptor)
                except termios.error:
                    os.close(descriptor)
                    raise
                opened.append((descriptor, before))
        yield [descriptor for descriptor, _ in opened]
    finally:
        for descriptor, before in opened:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(descriptor, termios.TCSANOW, before)  # type: ignore[arg-type]
            os.close(descriptor)


@contextlib.contextmanager
def kept(descriptor: int) -> Iterator[None]:
    """Lend a terminal to a program, and have it as before however that ends."""
    if not os.isatty(descriptor):
        yield
        return
    before, blocking = termios.tcgetattr(descriptor), os.get_blocking(descriptor)
    try:
        yield
    finally:
        os.set_blocking(descriptor, blocking)
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
        with contextlib.suppress(OSError):
            os.write(descriptor, NORMAL_TEXT)


def _set_key_mode(descriptor: int) -> None:
    """No line editing and no echo, but a return that works: whatever a login left behind."""
    mode = termios.tcgetattr(descriptor)
    mode[0] |= termios.ICRNL
    mode[1] |= termios.OPOST | termios.ONLCR
    mode[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
    mode[6][termios.VMIN] = 1
    mode[6][termios.VTIME] = 0
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, mode)


def read_key(descriptors: Sequence[int], wanted: str, wait_seconds: float) -> str:
    """The first of the wanted keys that somebody presses, or "" when the time is over."""
    deadline = time.monotonic() + wait_seconds
    watched = list(descriptors)
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select(watched, [], [], left)
        for descriptor in ready:
            try:
                data = os.read(descriptor, 64)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                watched.remove(descriptor)
            for key in data.decode("ascii", "replace").lower():
                if key in wanted:
                    return key
    return ""
