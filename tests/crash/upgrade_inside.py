"""What runs inside the user-mode Linux: one real upgrade of a kernel, on real vfat and ext4.

Run by `upgrade.record`; /dev/vda is the stick, its one argument the directory shared with it.
"""

import os
import sys
from pathlib import Path

from ramos.boot import esp
from ramos.booted import Boot
from ramos.packages import debian
from ramos.packages.site import Site
from ramos.stick import identity
from tests.crash import mounts
from tests.crash.device import PERSIST_OPTIONS
from tests.labs.debmirror import Mirror
from tests.labs.packagelab import NEW, OLD, Lab, add_kernel, make_root, write_apt_config

MARKS = "stick/fuse/mark"
# As the image builder leaves it: the stock metapackage of the kernel.
STATUS = """Package: linux-image-test
Status: install ok installed
Maintainer: x <x@x>
Architecture: amd64
Version: 6.1.1-1
Description: x
"""


def mark(share: Path, text: str) -> None:
    """Leave a note in the stick's log; it is in its place when this returns."""
    descriptor = os.open(share / MARKS, os.O_WRONLY)
    os.write(descriptor, text.encode())
    os.fsync(descriptor)
    os.close(descriptor)


def make_mirror(folder: Path) -> Mirror:
    """It has the new kernel."""
    mirror = Mirror(folder)
    add_kernel(mirror, NEW, "6.1.2-1")
    mirror.publish()
    return mirror


def make_lab(home: Path, disk: str, mirror: Mirror) -> Lab:
    """A system with the old kernel and a mirror; its stick is a disk of this machine."""
    persist, esp_node = home / "persist", Path(f"{disk}1")
    persist.mkdir(parents=True)
    mounts.mount(f"{disk}2", persist, "ext4", PERSIST_OPTIONS, mounts.MS_NOATIME)
    root = make_root(home)
    (root / "var/lib/dpkg/status").write_text(STATUS)
    (root / "etc/apt/sources.list.d/test.sources").write_text(mirror.source)
    os.environ["APT_CONFIG"] = str(write_apt_config(home, root))
    boot = Boot(persist=f"{disk}2", esp_uuid=identity.read_identity(esp_node).uuid)
    site = Site(
        manager=debian,
        persist=persist,
        work=home / "work",
        running=OLD,
        open_esp=lambda writable: esp.mount_esp(boot, writable=writable),
        root=root,
        recipes_dir=home / "recipes.d",
        lock_file=home / "lock",
    )
    return Lab(site, esp.MOUNT_POINT, mirror)


def main() -> None:
    """Upgrade between two marks."""
    share, home = Path(sys.argv[1]), Path("/tmp/lab")  # in the RAM of this machine
    lab = make_lab(home, "/dev/vda", make_mirror(home / "mirror"))
    mark(share, "begin upgrade")
    report = lab.upgrade()
    mark(share, "end upgrade")
    assert report.kernels == (NEW,), report
    mounts.unmount(lab.site.persist)


if __name__ == "__main__":
    main()
