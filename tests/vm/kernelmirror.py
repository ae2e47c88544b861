"""Debian's kernel for clouds on a mirror for a virtual machine, with the few modules it needs.

It is a real one, but knows no USB at all: on a stick it boots as far as init, and not a step
further.
"""

import contextlib
import functools
import http.server
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from ramos import initramfs, kmod
from tests.debmirror import Mirror, build_deb

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "test-kernels"
# Newer than whatever the image has.
VERSION = "99.1"
FAILING = "#!/bin/sh\necho this script must never run\nexit 1\n"
CLOUD = "linux-image-cloud-amd64"
LISTS = (
    initramfs.BASE_MODULES,
    initramfs.STORAGE_MODULES,
    initramfs.UPPER_MODULES,
    initramfs.HARDWARE_MODULES,
    initramfs.OTHER_MODULES,
)


def find_kernel(meta: str) -> str:
    """The version of the kernel that a metapackage of Debian names."""
    text = subprocess.run(
        ["apt-cache", "depends", "--important", meta], capture_output=True, text=True, check=True
    ).stdout
    package = next(line.split()[1] for line in text.splitlines() if "Depends: " in line)
    return package.removeprefix("linux-image-")


def provide_kernel(kernel: str) -> Path:
    """The package of a kernel, cut down; made once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    output = CACHE / f"linux-image-{kernel}_{VERSION}_amd64.deb"
    with filelock.FileLock(CACHE / "lock"):
        if not output.exists():
            _make_kernel(kernel, output)
    return output


def _make_kernel(kernel: str, output: Path) -> None:
    """Fetch, unpack, keep what is needed, pack again with dpkg-deb."""
    name = f"linux-image-{kernel}"
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        folder = Path(scratch)
        options = ["-o", "APT::Sandbox::User=root"]
        argv = ["apt-get", *options, "download", "-q", name]
        subprocess.run(argv, cwd=folder, check=True, capture_output=True)
        tree = folder / "tree"
        subprocess.run(["dpkg-deb", "-x", next(folder.glob("*.deb")), tree], check=True)
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
    """A mirror that answers, and the version of the kernel it has."""

    mirror: Mirror
    port: int
    kernel: str


def make_mirror(folder: Path, kernel: str) -> Mirror:
    """A mirror with the kernel and the metapackage that names it."""
    mirror = Mirror(folder)
    package = provide_kernel(kernel)
    os.link(package, folder / package.name)
    fields = {"Package": CLOUD, "Version": VERSION, "Architecture": "amd64"}
    mirror.add({**fields, "Depends": f"linux-image-{kernel} (= {VERSION})"}, {})
    mirror.publish()
    return mirror


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Offer]:
    """Make the mirror, and serve it by HTTP on the loopback."""
    kernel = find_kernel(CLOUD)
    mirror = make_mirror(folder, kernel)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Offer(mirror, int(server.server_address[1]), kernel)
        server.shutdown()
        thread.join()
