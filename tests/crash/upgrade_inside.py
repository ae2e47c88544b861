"""What runs inside the user-mode Linux: one real upgrade of a kernel, on real vfat and ext4.

Run by `upgrade.record`; /dev/vda is the stick, its one argument the directory shared with it.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from ramos.boot import esp
from ramos.booted import Boot
from ramos.packages import change, engine
from ramos.packages.site import Site
from ramos.progress import quiet
from ramos.stick import identity
from tests.crash import bases, mounts
from tests.crash.bases import Base
from tests.crash.device import PERSIST_OPTIONS

MARKS = "stick/fuse/mark"


def mark(share: Path, text: str) -> None:
    """Leave a note in the stick's log; it is in its place when this returns."""
    descriptor = os.open(share / MARKS, os.O_WRONLY)
    os.write(descriptor, text.encode())
    os.fsync(descriptor)
    os.close(descriptor)


def make_site(base: Base, home: Path, share: Path, disk: str) -> Site:
    """A system with the old kernel, whose stick is a disk of this machine."""
    persist, esp_node = home / "persist", Path(f"{disk}1")
    persist.mkdir(parents=True)
    mounts.mount(f"{disk}2", persist, "ext4", PERSIST_OPTIONS, mounts.MS_NOATIME)
    boot = Boot(persist=f"{disk}2", esp_uuid=identity.read_identity(esp_node).uuid)
    return replace(
        base.make_site(home, share),
        open_esp=lambda writable: esp.mount_esp(boot, writable=writable),
    )


def upgrade(site: Site) -> engine.Report:
    """As a user does it."""
    with engine.workplace(site):
        change.recover(site)
        engine.refresh(site, quiet)
        return engine.bring(site, engine.find_newer(site), quiet)


def main() -> None:
    """Upgrade between two marks."""
    share, home = Path(sys.argv[1]), Path("/tmp/lab")  # in the RAM of this machine
    base = bases.find_base(share)
    site = make_site(base, home, share, "/dev/vda")
    mark(share, "begin upgrade")
    report = upgrade(site)
    mark(share, "end upgrade")
    assert report.kernels == (base.new,), report
    mounts.unmount(site.persist)


if __name__ == "__main__":
    main()
