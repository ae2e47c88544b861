"""An Alpine-like mirror whose packages boot: Alpine's names and layout, Debian's programs in them.

No Alpine mirror can be reached where the tests run. So the packages are made from a root tree of
the Debian base (the donor): its kernel, with gzipped modules as Alpine has them, its static BusyBox
as init, its OpenRC, its Python, and the libraries that all these need. What is Alpine's own here is
the form: package format, index, database, runlevels, inittab, module compression. musl is not.

With RAMOS_ALPINE_ROOT (see alpine_root), musl, BusyBox, apk and the base layout are Alpine's own:
its init, shell, getty and login, in the initramfs too. Debian's programs find glibc beside it.
"""

import gzip
from collections.abc import Iterable
from pathlib import Path

from ramos.boot import initramfs
from ramos.linux import elf, kmod
from tests.labs import alpine_root
from tests.labs.alpine_mirror import FIRMWARE_NONE, MKINITFS, Content, Spec

SKIPPED = (
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/locale",
    "/usr/share/info",
    "/etc/init.d/r",
    "/etc/ssl",
)
# Package of Alpine -> packages of Debian that bring the same.
DEBIAN = {
    "openrc": ("openrc", "librc1", "libeinfo1", "insserv", "sysvinit-utils"),
    "python3": ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    "py3-click": ("python3-click",),
    "py3-udev": ("python3-pyudev", "libudev1"),
    "py3-psutil": ("python3-psutil",),
    "py3-pyroute2": ("python3-pyroute2",),
    "squashfs-tools": ("squashfs-tools",),
    "e2fsprogs": ("e2fsprogs",),
    "btrfs-progs": ("btrfs-progs",),
    "cryptsetup": ("cryptsetup-bin",),
    "fsverity-utils": ("fsverity",),
    "zstd": ("zstd",),
    "openssl": ("openssl",),
    # Debian has no doas that reads what Alpine's reads.
    "doas": ("sudo",),
}
COMMUNITY = ("py3-", "fsverity")
BASE: dict[str, Content] = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\ntty:x:5:\ndisk:x:6:\nwheel:x:10:\nuucp:x:14:\nutmp:x:43:\n",
    "etc/shadow": b"root:*::0:::::\n",
    "etc/profile": b"for f in /etc/profile.d/*.sh; do . $f; done\n",
    "etc/nsswitch.conf": b"passwd: files\ngroup: files\nshadow: files\n",
    "root/.keep": b"",
    "home/.keep": b"",
    "proc/.keep": b"",
    "sys/.keep": b"",
    "dev/.keep": b"",
    "run/.keep": b"",
    "tmp/.keep": b"",
    "var/tmp/.keep": b"",
    "var/log/.keep": b"",
    "var/run": "../run",
    "lib/firmware/.keep": b"",
    "usr/lib/.keep": b"",
    "usr/share/.keep": b"",
}
# What Debian's packages of these names lack.
ADDED: dict[str, dict[str, Content]] = {
    "python3": {"usr/bin/python3": "python3.11"},
    "doas": {
        "etc/pam.d/sudo": b"""auth required pam_permit.so
account required pam_permit.so
session required pam_permit.so
""",
    },
    "openrc": {
        "etc/init.d/devfs": b"""#!/sbin/openrc-run
start() { mkdir -p /dev/pts && mount -t devpts devpts /dev/pts; }
""",
        "etc/init.d/hostname": b"""#!/sbin/openrc-run
start() { hostname -F /etc/hostname; }
""",
        "etc/init.d/killprocs": b"""#!/sbin/openrc-run
start() { killall5 -15; sleep 1; killall5 -9; return 0; }
""",
        "etc/init.d/mount-ro": b"""#!/sbin/openrc-run
start() { sync; mount -o remount,ro /persist; }
""",
    },
}
# Files of the donor that its packages of these names lack.
BORROWED = {
    "doas": ("lib/x86_64-linux-gnu/security/pam_permit.so",),
    "openrc": ("sbin/start-stop-daemon",),
}
MODULE_LISTS = (
    initramfs.BASE_MODULES,
    initramfs.UPPER_MODULES,
    initramfs.LUKS_MODULES,
    initramfs.KEYBOARD_MODULES,
    initramfs.HARDWARE_MODULES,
    initramfs.OTHER_MODULES,
)
# For the network card of a virtual machine, and one that nothing loads by itself.
MACHINE_MODULES = "virtio_net virtio_rng dummy"
MODULE_TABLES = ("order", "builtin", "builtin.modinfo", "alias", "softdep", "symbols")
# Debian's BusyBox has init by its other name only.
INIT = b"#!/bin/busybox sh\nexec /bin/linuxrc\n"
APPLETS = "#!/bin/busybox sh\n/bin/busybox --install -s\nrm -f /sbin/init /usr/sbin/init\n"


def find_donor(cache: Path) -> Path:
    """The root tree of a Debian image with OpenRC, where the image builder keeps it."""
    trees = [path.parents[1] for path in cache.glob("trees/*/tree/sbin/openrc")]
    assert trees, f"no Debian image with OpenRC was built with the cache {cache}"
    return max(trees, key=lambda tree: tree.parent.stat().st_mtime)


def list_donor_specs(donor: Path, home: Path) -> list[Spec]:
    """Packages that make a bootable minimal system; for the rest, empty ones can be added."""
    specs = [make_spec(donor, name) for name in DEBIAN]
    programs = [f"/{name}" for spec in specs for name in spec.files]
    files = elf.find_libraries(donor, programs)
    known = set(programs)
    libraries: dict[str, Content] = {p.lstrip("/"): f for p, f in files.items() if p not in known}
    libraries["usr/libexec/ldconfig"] = donor / "sbin/ldconfig"
    script = "#!/bin/busybox sh\n/usr/libexec/ldconfig\n"
    glibc = Spec("debian-libraries", libraries, ["busybox"], scripts={"post-install": script})
    base = list_real_base(home) if alpine_root.TARBALL else list_base(donor)
    return [*base, *specs, make_kernel(donor), glibc, FIRMWARE_NONE, MKINITFS]


def list_base(donor: Path) -> list[Spec]:
    """Stand-ins for what is Alpine's own."""
    busybox: dict[str, Content] = {
        "bin/busybox": donor / "bin/busybox",
        "bin/linuxrc": "busybox",
        "sbin/init.busybox": INIT,
        "usr/bin/.keep": b"",
        "usr/sbin/.keep": b"",
    }
    script = APPLETS + "ln -s init.busybox /sbin/init\n"
    return [
        Spec("alpine-baselayout", BASE),
        Spec("alpine-base", depends=["alpine-baselayout", "busybox", "debian-libraries"]),
        Spec("busybox", busybox, scripts={"post-install": script}, depends=["alpine-baselayout"]),
        Spec("busybox-static", {"bin/busybox.static": donor / "bin/busybox"}),
    ]


def list_real_base(home: Path) -> list[Spec]:
    """Alpine's own; a minirootfs has no static BusyBox, so that the other one serves the boot."""
    specs = list(alpine_root.list_specs(home, alpine_root.provide_root()))
    depends = [*(spec.name for spec in specs), "debian-libraries"]
    return [*specs, Spec("alpine-base", alpine_root.find_release_files(), depends)]


def make_spec(donor: Path, name: str) -> Spec:
    """A package with what some packages of the donor hold."""
    files = dict(list_files(donor, DEBIAN[name])) | ADDED.get(name, {})
    files |= {path: donor / path for path in BORROWED.get(name, ())}
    repository = "community" if name.startswith(COMMUNITY) else "main"
    return Spec(name, files, depends=["debian-libraries"], repository=repository)


def list_files(donor: Path, packages: Iterable[str]) -> Iterable[tuple[str, Content]]:
    """The files and links of Debian packages, by dpkg's lists."""
    for package in packages:
        info = donor / "var/lib/dpkg/info"
        listing = next(
            p for p in (info / f"{package}.list", info / f"{package}:amd64.list") if p.exists()
        )
        for line in listing.read_text().splitlines():
            path = donor / line.lstrip("/")
            if line.startswith(SKIPPED) or path.is_dir():
                continue
            if path.is_symlink():
                yield line.lstrip("/"), str(path.readlink())
            elif path.is_file():
                yield line.lstrip("/"), path


def make_kernel(donor: Path, version: str = "6.1.0-r56") -> Spec:
    """linux-lts: the kernel of a tree, and those of its modules that a boot can want."""
    folder = next(path for name in ("usr/lib", "lib") for path in (donor / name).glob("modules/*"))
    modules = kmod.load(donor, folder.name)
    place = f"lib/modules/{folder.name}"
    chosen = sorted(modules.close(set(" ".join((*MODULE_LISTS, MACHINE_MODULES)).split())))
    paths = {name: f"{modules.plain_path(name)}.gz" for name in chosen}
    files: dict[str, Content] = {
        f"{place}/{path}": gzip.compress(modules.read(name), 1, mtime=0)
        for name, path in paths.items()
    }
    table = [
        f"{path}: {' '.join(paths[need] for need in modules.needs[name])}".rstrip() + "\n"
        for name, path in paths.items()
    ]
    files[f"{place}/modules.dep"] = "".join(table).encode()
    for name in (f"modules.{table}" for table in MODULE_TABLES):
        if (folder / name).exists():
            files[f"{place}/{name}"] = folder / name
    files[f"{place}/kernel-suffix"] = b"-lts\n"
    files[f"boot/vmlinuz-{folder.name}"] = donor / f"boot/vmlinuz-{folder.name}"
    needs = ["initramfs-generator", "linux-firmware-any"]
    return Spec("linux-lts", files, depends=needs, version=version)
