"""`ramos vm run` with a real QEMU and a tiny guest: what it prints, where its serial line goes.

The guest is a boot sector that says HELLO on its serial line, again and again.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.vm import accelerator
from ramos.vm.machine import launch
from ramos.vm.qemu import VmPlan
from tests.conftest import REPOSITORY

WORD = b"HELLO\n"
# mov dx, 0x3f8; for each letter: mov al, LETTER; out dx, al; then wait a little and start again.
SAY = b"\xba\xf8\x03" + b"".join(b"\xb0%c\xee" % letter for letter in WORD)
WAIT = b"\xbb\x40\x00\x31\xc9\xe2\xfe\x4b\x75\xfb"
CODE = SAY + WAIT + b"\xeb" + bytes([256 - len(SAY) - len(WAIT) - 2])
SECONDS = 60
END = b"\x01x"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old.img").write_bytes(bytes(512))
    os.utime(tmp_path / "old.img", (1, 1))
    (tmp_path / "new, one.img").write_bytes(
        (CODE.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0")
    )
    return tmp_path


@contextlib.contextmanager
def start(folder: Path, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command with a terminal's keys at its standard input; it ends with the block."""
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS)


def await_text(reader: int, text: bytes) -> bytes:
    """Read until there is a text; what came until then."""
    found, deadline = b"", time.monotonic() + SECONDS
    while text not in found:
        assert select.select([reader], [], [], deadline - time.monotonic())[0], found
        part = os.read(reader, 4096)
        assert part, found
        found += part
    return found


def ramos(*words: str) -> list[str]:
    return [sys.executable, "-m", "ramos", "vm", "run", "--bios", "--accel", "tcg", *words]


def end(process: subprocess.Popen[bytes]) -> None:
    """By the keys that it names."""
    assert process.stdin is not None
    process.stdin.write(END)
    process.stdin.flush()
    assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("bus", ["usb", "virtio"])
def test_the_printed_script_boots_the_newest_image(folder: Path, bus: str) -> None:
    argv = ramos("--print", "--snapshot", "--bus", bus)
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        argv, cwd=folder, env=env, capture_output=True, text=True, check=True, timeout=SECONDS
    )
    assert done.stderr == "The newest image here is new, one.img.\n"
    assert "Ctrl-A X ends the machine" in done.stdout.splitlines()[1]
    assert max(map(len, done.stdout.splitlines())) <= 200
    script = folder / "vm.sh"
    script.write_text(done.stdout)
    with start(folder, "sh", str(script)) as process:
        assert process.stdout is not None
        await_text(process.stdout.fileno(), WORD)
        end(process)


def test_the_serial_line_in_this_terminal_and_in_a_log(folder: Path) -> None:
    (folder / "serial.log").write_text("of yesterday")
    with start(folder, *ramos("--log", "serial.log", "new, one.img")) as process:
        assert process.stdout is not None
        said = await_text(process.stdout.fileno(), WORD)
        assert b"Ctrl-A X ends the machine" in said
        end(process)
    assert (folder / "serial.log").read_bytes().count(WORD) >= 1
    assert b"of yesterday" not in (folder / "serial.log").read_bytes()


def test_the_serial_line_at_a_port(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start(folder, *ramos("--serial", f"tcp:{port}")) as process:
        assert process.stdout is not None
        said = await_text(process.stdout.fileno(), b"Ctrl-C ends the machine")
        assert b"at 127.0.0.1:%d;" % port in said
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                line = socket.create_connection(("127.0.0.1", port))
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        with line:
            await_text(line.fileno(), WORD)


def test_the_serial_line_at_a_terminal(folder: Path) -> None:
    with start(folder, *ramos("--serial", "pty")) as process:
        assert process.stdout is not None
        said = await_text(process.stdout.fileno(), b"(label serial)")
        name = said.partition(b"redirected to ")[2].split()[0]
        line = os.open(name, os.O_RDWR | os.O_NOCTTY)
        try:
            await_text(line, WORD)
        finally:
            os.close(line)


def test_the_tiny_guest_that_proves_an_accelerator_boots_by_bios(tmp_path: Path) -> None:
    image = tmp_path / "probe.img"
    accelerator.write_probe(image)
    plan = VmPlan(image, firmware="bios", bus="virtio", extra=accelerator.PROBE_EXIT)
    with launch(plan, "none", snapshot=False, kvm=False) as running:
        assert running.process.wait(SECONDS) == accelerator.PROBE_STATUS
