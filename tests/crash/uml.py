"""A Linux kernel as a process of this machine: its drivers write to a served stick.

The host's own kernel may have no FAT; Debian's user-mode Linux is Debian's kernel otherwise. Its
own block device drops flushes (a flush has no data, and no piece of data means no call), so the
stick is a virtio device, with QEMU's storage daemon behind it. Owns: starting both around a Python
program. Refuses: giving it the host to write to (the host's tree is its root, read-only; one
directory is shared). Invariant: when `run_inside` returns, both have ended.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.crash.device import REPOSITORY

KERNEL = Path("/usr/bin/linux.uml")
INIT = Path(__file__).with_suffix(".sh")
MEMORY = "1G"
LIMIT_SECONDS = 300
START_SECONDS = 30
VIRTIO_BLOCK = 2


def run_inside(program: str, disks: Sequence[Path], share: Path) -> str:
    """Run a module of this repository with the disks as /dev/vda, /dev/vdb and so on.

    What it printed is what this returns.

    The program gets the path of `share`, which is the same inside and outside.
    """
    words = {
        "UML_SHARE": share,
        "UML_HERE": REPOSITORY,
        "UML_PYTHON": sys.executable,
        "UML_PROGRAM": program,
    }
    with exported(disks, share) as sockets:
        command = [
            *(str(KERNEL), f"mem={MEMORY}"),
            *(f"virtio_uml.device={socket}:{VIRTIO_BLOCK}" for socket in sockets),
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={INIT}"),
            *("con=null", "con0=null,fd:1", "quiet"),
            *(f"{name}={value}" for name, value in words.items()),
        ]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    output, status = (share / name for name in ("output", "status"))
    text = output.read_text(errors="replace") if output.exists() else ""
    if not status.exists() or status.read_text().strip() != "0":
        said = done.stdout.decode("utf-8", "replace")
        raise RuntimeError(f"{program} failed in the user-mode Linux:\n{said}\n{text}")
    return text


@contextlib.contextmanager
def exported(disks: Sequence[Path], share: Path) -> Iterator[list[Path]]:
    """Files as virtio devices: writes and flushes reach them as the kernel sends them."""
    command = ["qemu-storage-daemon"]
    sockets = [share / f"vhost{n}" for n in range(len(disks))]
    for n, (disk, socket) in enumerate(zip(disks, sockets, strict=True)):
        node = f"driver=file,node-name=disk{n},filename={disk},cache.direct={_has_direct(disk)}"
        export = f"type=vhost-user-blk,id=export{n},node-name=disk{n},writable=on,addr.type=unix"
        command += ["--blockdev", node, "--export", f"{export},addr.path={socket}"]
    with subprocess.Popen(command) as daemon:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not all(socket.exists() for socket in sockets):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"qemu-storage-daemon did not start for {disks}")
                time.sleep(0.05)
            yield sockets
        finally:
            daemon.terminate()
            daemon.wait()


def _has_direct(disk: Path) -> str:
    """A served stick is asked past the page cache; a file in a tmpfs cannot be."""
    try:
        os.close(os.open(disk, os.O_RDWR | os.O_DIRECT))
    except OSError:
        return "off"
    return "on"
