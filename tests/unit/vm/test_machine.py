"""A login by a program: at a prompt that asks, and at one that the image answers itself."""

import socket
import subprocess
import threading
from pathlib import Path

import pytest

from ramos.vm import qemu
from ramos.vm.machine import SHELL_SETUP, Machine

# What the guest says, each after the line that was typed before it.
SHELL = (("exec sudo -n sh", "\r\n# "), (SHELL_SETUP, "READY\r\n"))
LOGINS = {
    "asks": (
        ("", "ramos login: "),
        ("ann", "Password: "),
        ("secret", "\r\nRAMOS, mode default: x.\r\nann@ramos:~$ "),
        *SHELL,
    ),
    "answers": (
        ("", "ramos login: ann (automatic login)\r\n\r\nRAMOS, mode default: x.\r\nann@ramos:~$ "),
        *SHELL,
    ),
}


@pytest.mark.parametrize("kind", LOGINS)
def test_login(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramos.vm.machine.Qmp", lambda _path: None)
    monkeypatch.setattr("ramos.vm.machine.AUTOMATIC_SECONDS", 0.3)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(qemu.serial_socket(tmp_path)))
    server.listen()
    typed: list[str] = []

    def play() -> None:
        line, _ = server.accept()
        with line, line.makefile("r") as keys:
            for wanted, answer in LOGINS[kind]:
                if wanted:
                    typed.append(keys.readline().rstrip("\n"))
                line.sendall(answer.encode())

    guest = threading.Thread(target=play, daemon=True)
    guest.start()
    machine = Machine(qemu.VmPlan(tmp_path / "x.img"), None, tmp_path)  # type: ignore[arg-type]
    machine.login("ann", "secret")
    guest.join(10)
    machine.serial.close()
    server.close()
    expected = [wanted for wanted, _ in LOGINS[kind] if wanted]
    assert [line.partition("; echo")[0] for line in typed] == expected


def test_a_file_is_written_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an earlier try was cut off in the middle."""
    left, target = tmp_path / "file.b64", tmp_path / "file"
    left.write_text("QUJD")
    machine = Machine.__new__(Machine)

    def check_shell(_self: Machine, command: str) -> None:
        subprocess.run(["sh", "-ec", command], check=True)

    monkeypatch.setattr(Machine, "check_shell", check_shell)
    machine.write_file(str(target), b"text" * 1000)
    assert target.read_bytes() == b"text" * 1000
    assert not left.exists()
