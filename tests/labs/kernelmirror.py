"""Kernels of Debian on a mirror for a virtual machine: real ones, with the few modules it needs.

`linux-image-amd64` becomes newer and names another of the generic kernels that Debian keeps.
`linux-image-cloud-amd64` names the kernel for clouds, which knows no USB at all: on a stick it
boots as far as init, and not a step further.
"""

import contextlib
import functools
import hashlib
import http.server
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock

from ramos.boot import initramfs
from ramos.boot.kernels import version_key
from ramos.linux import kmod
from ramos.vm.machine import Machine
from tests.labs.debmirror import Mirror, build_deb

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "test-kernels"
# Newer than whatever the image has.
VERSION = "99.1"
# For the network card of the machine, and one that nothing loads by itself.
WANTED = "virtio_net virtio_rng dummy"
FAILING = "#!/bin/sh\necho this script must never run\nexit 1\n"
SOURCE = "Types: deb\nURIs: http://10.0.2.2:{}\nSuites: ./\nSigned-By: /etc/apt/test.gpg\n"
GENERIC, CLOUD = "linux-image-amd64", "linux-image-cloud-amd64"
PACKAGE = re.compile(r"^linux-image-(6\.1\.0-[0-9]+-amd64) ", re.MULTILINE)
LISTS = (
    initramfs.BASE_MODULES,
    initramfs.STORAGE_MODULES,
    initramfs.UPPER_MODULES,
    initramfs.WATCHDOG_MODULES,
    initramfs.HARDWARE_MODULES,
    initramfs.OTHER_MODULES,
    WANTED,
)


def find_kernel(meta: str) -> str:
    """The version of the kernel that a metapackage of Debian names."""
    text = subprocess.run(
        ["apt-cache", "depends", "--important", meta], capture_output=True, text=True, check=True
    ).stdout
    package = next(line.split()[1] for line in text.splitlines() if "Depends: " in line)
    return package.removeprefix("linux-image-")


def find_other_kernel() -> str:
    """The newest generic kernel but for the one that an image is made with."""
    argv = ["apt-cache", "search", "--names-only", "^linux-image-6"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found: set[str] = set(PACKAGE.findall(text))
    return max(found - {find_kernel(GENERIC)}, key=version_key)


def provide_kernel(kernel: str) -> Path:
    """The package of a kernel, cut down; made once for each choice of modules."""
    folder = CACHE / hashlib.sha256(" ".join(LISTS).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"linux-image-{kernel}_{VERSION}_amd64.deb"
    with filelock.FileLock(CACHE / "lock"):
        if not output.exists():
            _make_kernel(kernel, output)
    return output


def download(name: str, folder: Path) -> Path:
    """A package of Debian as it is."""
    argv = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "-q", name]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)
    return next(folder.glob(f"{name}_*.deb"))


def _make_kernel(kernel: str, output: Path) -> None:
    """Fetch, unpack, keep what is needed, pack again with dpkg-deb."""
    name = f"linux-image-{kernel}"
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        folder = Path(scratch)
        tree = folder / "tree"
        subprocess.run(["dpkg-deb", "-x", download(name, folder), tree], check=True)
        subprocess.run(["depmod", "-b", tree, kernel], check=True)
        made = folder / output.name
        build_deb(
            made,
            {
                "Package": name,
                "Version": VERSION,
                "Architecture": "amd64",
                "Depends": "linux-initramfs-tool",
            },
            {str(path.relative_to(tree)): path for path in _list_kept(tree, kernel)},
            dict.fromkeys(("preinst", "postinst", "prerm", "postrm"), FAILING),
            compression="zstd",
        )
        made.rename(output)


def _list_kept(tree: Path, kernel: str) -> list[Path]:
    modules = kmod.load(tree, kernel)
    names = modules.close({name for text in LISTS for name in text.split()})
    tables = [modules.folder / f"modules.{name}" for name in ("builtin", "order")]
    loaded = [modules.folder / modules.files[name] for name in sorted(names)]
    return [tree / f"boot/vmlinuz-{kernel}", *tables, *loaded]


@dataclass(frozen=True)
class Offer:
    """A mirror that answers, and the kernels it has: a good one, and one that knows no USB."""

    mirror: Mirror
    port: int
    good: str
    bad: str


def make_mirror(folder: Path, kernels: Mapping[str, str]) -> Mirror:
    """A mirror whose metapackages name these kernels."""
    mirror = Mirror(folder)
    for meta, kernel in kernels.items():
        package = provide_kernel(kernel)
        os.link(package, folder / package.name)
        fields = {"Package": meta, "Version": VERSION, "Architecture": "amd64"}
        mirror.add({**fields, "Depends": f"linux-image-{kernel} (= {VERSION})"}, {})
    mirror.publish()
    return mirror


def use(machine: Machine, mirror: Mirror, port: int) -> None:
    """The only mirror that a machine knows."""
    machine.write_file("/etc/apt/test.gpg", mirror.keyring.read_bytes())
    machine.check_shell("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
    machine.write_file("/etc/apt/sources.list.d/test.sources", SOURCE.format(port).encode())


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def serve_folder(folder: Path) -> Iterator[int]:
    """Serve a folder by HTTP on the loopback; the port."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Offer]:
    """Make the mirror, and serve it."""
    good, bad = find_other_kernel(), find_kernel(CLOUD)
    mirror = make_mirror(folder, {GENERIC: good, CLOUD: bad})
    with serve_folder(folder) as port:
        yield Offer(mirror, port, good, bad)
