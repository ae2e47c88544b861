"""A small Alpine-like mirror, made by this project's own code and signed with a test key.

It has Alpine's layout, package names, fields and index format. What the image builder takes as the
static apk is in its apk-tools-static, for those tests that give one (see alpine_root).

    <mirror>/v3.23/{main,community}/x86_64/{APKINDEX.tar.gz, *.apk}     latest-stable -> v3.23
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ramos.formats import apk_index, apk_pack, apk_package
from tests.labs import apk_tools

BRANCH = "v3.23"
ARCH = "x86_64"
MTIME = 1_700_000_000
KERNEL = "6.12.40-0-lts"
Content = bytes | str | Path


@dataclass(frozen=True)
class Spec:
    """A package to be made: `files` maps names to bytes, to files, or to the target of a link."""

    name: str
    files: Mapping[str, Content] = field(default_factory=dict)
    depends: Sequence[str] = ()
    provides: Sequence[str] = ()
    # Without a priority apk takes nothing for a provided name that has no version.
    priority: int = 0
    scripts: Mapping[str, str] = field(default_factory=dict)
    triggers: str = ""
    version: str = "1.0-r0"
    repository: str = "main"
    arch: str = ARCH
    # A directory that is packed as it is, owners and modes included, in place of `files`.
    tree: Path | None = None
    # Further fields.
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mirror:
    """What was made: the mirror, the private key, and the directory of public keys."""

    path: Path
    key: Path
    keys: Path

    def folder(self, repository: str = "main") -> Path:
        """Where the files of a repository lie."""
        return self.path / BRANCH / repository / ARCH

    def package(self, spec_name: str) -> Path:
        """The file of a package."""
        return next(iter(self.path.glob(f"{BRANCH}/*/{ARCH}/{spec_name}-[0-9]*.apk")))


def make_mirror(
    directory: Path,
    specs: Sequence[Spec],
    key_name: str = "test-1.rsa",
    tool: Path | None = None,
) -> Mirror:
    """Make a mirror of these packages, and of apk-tools-static with this program in it."""
    key, keys = apk_tools.make_keys(directory, key_name)
    mirror = Mirror(directory / "mirror", key, keys)
    static = [] if tool is None else [Spec("apk-tools-static", {"sbin/apk.static": tool})]
    for repository in ("main", "community"):
        mirror.folder(repository).mkdir(parents=True)
    for spec in (*specs, *static):
        add_package(mirror, spec)
    (mirror.path / "latest-stable").symlink_to(BRANCH)
    write_indexes(mirror)
    return mirror


def add_package(mirror: Mirror, spec: Spec) -> Path:
    """Make one package; the index does not know it yet."""
    fields: dict[str, str | Sequence[str]] = {
        "pkgname": spec.name,
        "pkgver": spec.version,
        "pkgdesc": f"{spec.name} of the test mirror",
        "url": "test",
        "arch": spec.arch,
        "license": "none",
        "builddate": "1700000000",
        "origin": spec.name,
        "depend": spec.depends,
        "provides": spec.provides,
        **spec.more,
    }
    if spec.triggers:
        fields["triggers"] = spec.triggers
    if spec.priority:
        fields["provider_priority"] = str(spec.priority)
    scripts = {name: text.encode() for name, text in spec.scripts.items()}
    package = apk_package.make_package(fields, scripts)
    output = mirror.folder(spec.repository) / package.file_name
    with tempfile.TemporaryDirectory() as directory:
        tree = spec.tree or Path(directory)
        for name, content in spec.files.items():
            write_content(tree / name, content)
        apk_pack.pack(package, tree, output, mirror.key, mtime=MTIME)
    return output


def write_content(path: Path, content: Content) -> None:
    """Bytes become a file (executable when they are a script), text a link, paths a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.symlink_to(content)
    elif isinstance(content, Path):
        shutil.copy(content, path)
        path.chmod(0o755 if os.access(content, os.X_OK) else 0o644)
        path.chmod(path.stat().st_mode | content.stat().st_mode & stat.S_ISUID)
    else:
        path.write_bytes(content)
        path.chmod(0o755 if content.startswith(b"#!") else 0o644)


def write_indexes(mirror: Mirror) -> None:
    """Write and sign both indexes, as the packages are now."""
    for repository in ("main", "community"):
        folder = mirror.folder(repository)
        apk_index.make_index(
            folder.glob("*.apk"),
            folder / apk_index.INDEX_NAME,
            mirror.key,
            f"{BRANCH}.0-1-g0123456789a [{repository}]",
            arch=ARCH,
        )


BUSYBOX = next(path for path in map(Path, ("/usr/bin/busybox", "/bin/busybox")) if path.exists())
BASE: dict[str, Content] = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\nwheel:x:10:\n",
    "etc/shadow": b"root:::0:::::\n",
    "etc/inittab": b"# stock\n",
    "etc/init.d/bootmisc": b"#!/sbin/openrc-run\n",
    "etc/init.d/udev": b"#!/sbin/openrc-run\n",
    "lib/firmware/.keep": b"",
    "var/tmp/.keep": b"",
}
# As Alpine's own: the switch that the builder sets is what keeps it from doing its work.
MKINITFS_TRIGGER = """#!/bin/busybox sh
disable_trigger=no
. /etc/mkinitfs/mkinitfs.conf
[ "$disable_trigger" = yes ] && exit 0
echo "$@" >/boot/initramfs-lts
"""
MKINITFS = Spec(
    "mkinitfs",
    {"etc/mkinitfs/mkinitfs.conf": b'features="base"\n'},
    provides=["initramfs-generator"],
    priority=900,
    scripts={"trigger": MKINITFS_TRIGGER},
    triggers="/lib/modules/*",
)
FIRMWARE_NONE = Spec(
    "linux-firmware-none", provides=["linux-firmware-any"], priority=1, arch="noarch"
)


def list_toy_specs() -> list[Spec]:
    """Packages with Alpine's names and next to nothing in them: enough for a root tree."""
    boot = f"lib/modules/{KERNEL}"
    kernel: dict[str, Content] = {
        "boot/vmlinuz-lts": b"kernel",
        f"{boot}/modules.dep": b"",
        f"{boot}/kernel-suffix": b"-lts\n",
        f"{boot}/vmlinuz": "/boot/vmlinuz-lts",
    }
    needs = ["initramfs-generator", "linux-firmware-any"]
    script = "#!/bin/busybox sh\necho ran >/etc/eudev-script\n"
    return [
        Spec("alpine-baselayout", BASE),
        Spec("alpine-base", depends=["alpine-baselayout", "busybox", "/bin/sh"]),
        Spec("busybox", {"bin/busybox": BUSYBOX}, provides=["cmd:busybox=1.0-r0"]),
        Spec("busybox-binsh", {"bin/sh": "/bin/busybox"}, provides=["/bin/sh"], priority=100),
        Spec("linux-lts", kernel, depends=needs, version="6.12.40-r0"),
        FIRMWARE_NONE,
        MKINITFS,
        Spec("eudev", {"sbin/udevd": b"#!/bin/sh\n"}, scripts={"post-install": script}),
    ]
