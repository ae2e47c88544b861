#!/usr/bin/python3 -I
"""A stand-in for a QEMU whose KVM is broken; it talks QMP as the real one does.

$QEMU_FAULT says how it fails under KVM: msr (QEMU aborts), internal-error (the processor stops
with a dump of its registers), hang (the machine runs and shows nothing), mute (QEMU itself does
not answer), loading (the kernel is loaded and shows nothing), or none. $QEMU_PROBE=passes lets a
machine with a debug port, which is a probe, through. Under emulation it shows a login prompt and
ends. Each start leaves a word in $QEMU_STARTS.
"""

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

WORDS = sys.argv[1:]
KVM = "kvm" in WORDS
PROBE = any(word.startswith("isa-debug-exit") for word in WORDS)
PROBE_STATUS = 33
DUMP = """\
KVM internal error. Suberror: 1
extra data[0]: 0x0000000000000000
emulation failure
RAX=0000000000000000 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000
Code=\x1b[31m00 00 00 00
"""
MSR = """\
qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69
qemu-system-x86_64: kvm.c:3183: kvm_buf_set_msrs: Assertion `ret == nmsrs' failed.
"""
state = {"status": "running"}


def find_option(name: str) -> list[str]:
    return [WORDS[at + 1] for at, word in enumerate(WORDS) if word == name]


def serve_qmp(path: str) -> None:
    """One client after another, as QEMU has it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        client = listener.accept()[0]
        if FAULT == "mute":
            time.sleep(600)
        if FAULT == "msr":
            client.close()
            continue
        with client.makefile("rw") as file:
            file.write('{"QMP": {"version": {}, "capabilities": []}}\n')
            file.flush()
            for line in file:
                file.write(json.dumps({"return": answer(json.loads(line))}) + "\n")
                file.flush()


def answer(command: dict[str, Any]) -> object:
    if command["execute"] == "screendump":
        Path(command["arguments"]["filename"]).write_bytes(b"PNG")
    return {
        "query-status": {"running": state["status"] == "running", **state},
        "query-blockstats": [{"node-name": "disk", "stats": {"rd_operations": 0}}],
    }.get(str(command["execute"]), {})


class Console:
    """The serial line: a socket whose client has come, this terminal, or only the log."""

    def __init__(self, line: str) -> None:
        options = dict(word.partition("=")[::2] for word in line.split(","))
        self.log = Path(options["logfile"])
        self.kind = line.partition(",")[0]
        if self.kind == "socket":
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(options["path"])
            listener.listen()
            self.client = listener.accept()[0]

    def show(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(text)
        if self.kind == "socket":
            self.client.sendall(text.encode())
        if self.kind == "stdio":
            sys.stdout.write(text)
            sys.stdout.flush()


def fail(console: Console) -> None:
    """What is wrong with KVM here."""
    if FAULT == "msr":
        sys.stderr.write(MSR)
        sys.stderr.flush()
        # A large process takes a while to die, and its sockets go first.
        time.sleep(0.3)
        os.abort()
    if FAULT == "internal-error":
        console.show("BdsDxe: starting\r\n")
        time.sleep(0.5)
        sys.stderr.write(DUMP)
        sys.stderr.flush()
        state["status"] = "internal-error"
    if FAULT == "loading":
        console.show("Loading Linux 6.1.0 ...\r\n")
    time.sleep(600)


def main() -> None:
    with Path(os.environ["QEMU_STARTS"]).open("a") as file:
        file.write(f"{'probe' if PROBE else 'kvm' if KVM else 'tcg'} ")
    console = Console(find_option("-chardev")[0])
    for line in find_option("-qmp"):
        path = line.partition(",")[0].removeprefix("unix:")
        threading.Thread(target=serve_qmp, args=[path], daemon=True).start()
    if FAULT != "none" and KVM:
        fail(console)
    if PROBE:
        console.show("BdsDxe: no boot option\r\n")
        time.sleep(0.5)
        sys.exit(PROBE_STATUS)
    console.show("ramos login: ")
    time.sleep(0.1 if console.kind == "stdio" else 600)


FAULT = os.environ["QEMU_FAULT"]
if PROBE and os.environ.get("QEMU_PROBE") == "passes":
    FAULT = "none"
if __name__ == "__main__":
    main()
