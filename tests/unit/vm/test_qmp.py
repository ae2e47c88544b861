"""The line to QEMU's monitor."""

import socket
import threading
from pathlib import Path

from ramos.vm.qmp import Qmp


def test_who_lets_go_of_the_monitor_hangs_up(tmp_path: Path) -> None:
    """QEMU serves one client after another: the next one waits for that."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "qmp"))
        listener.listen()

        def serve() -> None:
            client = listener.accept()[0]
            with client, client.makefile("rwb") as file:
                client.settimeout(2)
                file.write(b'{"QMP": {}}\n{"return": {}}\n')
                file.flush()
                heard.extend((*file, b"the end"))

        qemu = threading.Thread(target=serve)
        qemu.start()
        qmp = Qmp(tmp_path / "qmp")
        qmp.close()
        qemu.join()
    assert heard == [b'{"execute": "qmp_capabilities", "arguments": {}}\n', b"the end"]
