"""QMP: the control channel of a running QEMU, one command at a time.

Owns: the socket and the order of commands, answers and events. Refuses: knowing what the commands
mean. Invariant: an event that arrives while an answer is awaited is kept, not lost.
"""

import json
import socket
import time
from pathlib import Path
from typing import Any

from ramos.errors import RamosError

COMMAND_SECONDS = 60.0


class Qmp:
    """A connection to the QMP socket of one QEMU."""

    def __init__(self, path: Path, answer_seconds: float = COMMAND_SECONDS) -> None:
        self.path = path
        self.answer_seconds = answer_seconds
        self.events: list[dict[str, Any]] = []
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        deadline = time.monotonic() + answer_seconds
        while "QMP" not in self._receive(deadline):
            pass
        self.execute("qmp_capabilities")

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command and give back what it returns; its error is ours."""
        message = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        deadline = time.monotonic() + self.answer_seconds
        while True:
            answer = self._receive(deadline)
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise RamosError("QEMU refuses", command, answer["error"]["desc"])
            elif "return" in answer:
                return answer["return"]

    def run_monitor(self, line: str) -> str:
        """Run a line of the human monitor; what it prints is mostly a complaint."""
        return str(self.execute("human-monitor-command", **{"command-line": line})).strip()

    def wait_event(self, name: str, timeout_seconds: float = COMMAND_SECONDS) -> dict[str, Any]:
        """The next event of that name, also one that arrived earlier."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            for index, event in enumerate(self.events):
                if event["event"] == name:
                    return self.events.pop(index)
            answer = self._receive(deadline)
            if "event" in answer:
                self.events.append(answer)

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message, whatever it is."""
        while b"\n" not in self._rest:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise RamosError("no answer from QEMU", self.path, "it took too long") from None
            except ConnectionError:
                data = b""
            if not data:
                raise RamosError("no answer from QEMU", self.path, "it has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        message = json.loads(line)
        assert isinstance(message, dict)
        return message
