"""The serial line of a virtual machine: wait for text, type text.

Owns: the socket, everything that was ever received, and the place up to which it was looked at.
Refuses: knowing what runs at the other end. Invariants: the line is drained all the time, so that
the guest never waits for us; text that was matched once is not matched again.
"""

import codecs
import contextlib
import re
import socket
import threading
import time
from pathlib import Path

from ramos.errors import RamosError

TAIL_LINES = 30
ESCAPES = re.compile(rb"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][0-9A-Za-z]|\x1b[=>78cM]|\r")
UNFINISHED_ESCAPE = re.compile(rb"\x1b(\[[0-9;?=]*|[()])?\Z")


class Serial:
    """A connection to the serial socket of one QEMU; `text` is what came, without control codes."""

    def __init__(self, path: Path) -> None:
        self.text = ""
        self.closed = False
        self._seen = 0
        self._rest = b""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._more = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Let go of the line; what was received stays."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(5)
        self._socket.close()

    @property
    def tail(self) -> str:
        """The last lines that were received."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        return "\n".join(lines[-TAIL_LINES:])

    def send(self, text: str) -> None:
        """Type text."""
        self._socket.sendall(text.encode())

    def expect(self, pattern: str, timeout_seconds: float) -> re.Match[str]:
        """Wait until a regular expression matches what has arrived since the last match."""
        expression = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout_seconds
        with self._more:
            while True:
                match = expression.search(self.text, self._seen)
                if match:
                    self._seen = match.end()
                    return match
                left = deadline - time.monotonic()
                if left <= 0 or self.closed:
                    break
                self._more.wait(left)
        reason = "the machine ended" if self.closed else f"not within {timeout_seconds:.0f} s"
        state = f"The last lines were:\n{self.tail}"
        raise RamosError("no such text on the serial line", pattern, reason, state)

    def _drain(self) -> None:
        while True:
            try:
                chunk = self._socket.recv(65536)
            except OSError:
                chunk = b""
            with self._more:
                self._add(chunk)
                self.closed = not chunk
                self._more.notify_all()
            if not chunk:
                return

    def _add(self, chunk: bytes) -> None:
        """Take in bytes; an escape sequence that is not finished waits for its end."""
        data = self._rest + chunk
        unfinished = UNFINISHED_ESCAPE.search(data)
        cut = unfinished.start() if unfinished else len(data)
        self._rest = data[cut:]
        self.text += self._decode(ESCAPES.sub(b"", data[:cut]))
