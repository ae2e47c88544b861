"""Whose kernel is upgraded while the power is cut: Debian's by the real apt, Alpine's by its apk.

Owns: what differs between the two: a mirror with the new kernel, a system with the old one, and
what the package manager has to say of the stick's repository afterwards. Half of it runs outside
(`prepare`, `check_repository`), half in the user-mode Linux, on a directory that both see.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ramos.packages import alpine, debian
from ramos.packages.site import Site
from tests.crash.check import hash_plainly
from tests.labs import alpine_mirror, alpine_root, apklab, debmirror, packagelab

NAME, MIRROR, NEWER, PROGRAM, SOURCE = "base", "mirror", "newer", "apk", "test.sources"
KEYS = "keys"
# As the image builder leaves it: the stock metapackage of the kernel.
STATUS = """Package: linux-image-test
Status: install ok installed
Maintainer: x <x@x>
Architecture: amd64
Version: 6.1.1-1
Description: x
"""


class Base(Protocol):
    """A package manager with a kernel to upgrade."""

    name: str
    old: str
    new: str
    # What the stick's repository holds then: names and versions.
    labels: frozenset[tuple[str, str]]

    def prepare(self, share: Path) -> None:
        """Make a mirror with the new kernel, and all else that a system needs."""

    def make_site(self, home: Path, share: Path) -> Site:
        """A system with the old kernel, below a directory; its stick is still to be found."""
        ...

    def check_system(self, site: Site) -> None:
        """After the upgrade the package manager has nothing to complain about."""

    def check_repository(self, packages: Path, scratch: Path) -> str:
        """Why it would not take the stick's repository; nothing when all is well."""
        ...


class Debian:
    """The real apt and dpkg, with an empty database."""

    name = "debian"
    old, new = packagelab.OLD, packagelab.NEW
    labels = frozenset({("linux-image-test", "6.1.2-1"), (f"linux-image-{new}", "6.1.2-1")})

    def prepare(self, share: Path) -> None:
        """As `Base`."""
        mirror = debmirror.Mirror(share / MIRROR)
        packagelab.add_kernel(mirror, self.new, "6.1.2-1")
        mirror.publish()
        (share / SOURCE).write_text(mirror.source)

    def make_site(self, home: Path, share: Path) -> Site:
        """As `Base`."""
        root = packagelab.make_root(home)
        (root / "var/lib/dpkg/status").write_text(STATUS)
        shutil.copy(share / SOURCE, root / "etc/apt/sources.list.d")
        os.environ["APT_CONFIG"] = str(packagelab.write_apt_config(home, root))
        return packagelab.make_site(debian, self.old, home, root)

    def check_system(self, site: Site) -> None:
        """As `Base`."""
        del site  # APT_CONFIG names its root
        for words in (["update", "-o", "APT::Update::Error-Mode=any"], ["check"]):
            argv = ["apt-get", "-y", "-q", *words]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

    def check_repository(self, packages: Path, scratch: Path) -> str:
        """Each index names the next one, and the packages that are there."""
        del scratch
        folder = packages / "debian"
        if not list(folder.glob("*")):
            return ""
        keyring, signature, release = (folder / n for n in ("ramos.gpg", "Release.gpg", "Release"))
        words: list[str | Path] = ["gpgv", "--keyring", keyring, signature, release]
        done = subprocess.run(words, capture_output=True, check=False)
        if done.returncode:
            return done.stderr.decode("utf-8", "replace")
        listed = (folder / "Packages").read_bytes()
        if hashlib.sha256(listed).hexdigest() not in release.read_text():
            return "Release does not name Packages"
        there = {path.name: hash_plainly(path) for path in folder.glob("*.deb")}
        found = re.findall(r"Filename: \./(\S+)\n(?:.+\n)*?SHA256: (\S+)", listed.decode())
        return "" if dict(found) == there else f"Packages names {found}, there are {there}"


class Alpine:
    """The real apk with Alpine's database, and the mirror of its tests."""

    name = "alpine"
    old, new = apklab.OLD, apklab.NEW
    labels = frozenset({("linux-lts", "6.12.60-r0")})

    def prepare(self, share: Path) -> None:
        """As `Base`; the system comes from another mirror, which has the old one."""
        mirror = apklab.make_mirror(share)
        mirror.keys.rename(share / KEYS)
        shutil.copy(alpine_root.provide_apk(), share / PROGRAM)
        newer = alpine_mirror.Mirror(share / NEWER, mirror.key, share / KEYS)
        for repository in ("main", "community"):
            newer.folder(repository).mkdir(parents=True)
        alpine_mirror.add_package(newer, apklab.make_kernel(self.new, "6.12.60-r0"))
        alpine_mirror.write_indexes(newer)

    def make_site(self, home: Path, share: Path) -> Site:
        """As `Base`."""
        old, newer = (share / name / alpine_mirror.BRANCH / "main" for name in (MIRROR, NEWER))
        root = apklab.make_system(share / PROGRAM, home, share / KEYS, old)
        (root.path / "etc/apk/repositories").write_text(f"{newer}\n")
        site = packagelab.make_site(alpine, self.old, home, root.path)
        return replace(site, apk=root.apk)

    def check_system(self, site: Site) -> None:
        """As `Base`."""
        root = apklab.Root(site.apk, site.root)
        root.run("update")
        assert "linux-lts" not in root.run("upgrade", "-a", "--simulate")
        root.run("fix", "linux-lts")
        assert {"V:6.12.60-r0", "s:ramos"} <= {*root.read_record("linux-lts")}
        assert "linux-lts" not in root.run("audit", "--system")

    def check_repository(self, packages: Path, scratch: Path) -> str:
        """Another system, which trusts the stick's key alone, gets all that is there."""
        folder = packages / "alpine"
        if not list(folder.glob("*/*")):
            return ""
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            path, apk = Path(name), alpine_root.provide_apk()
            root = apklab.make_root(apk, path / "root", packages / "key", str(folder))
            said = root.run("update", code=None)
            if "ERROR" in said or "WARNING" in said:
                return said
            named = [label.rsplit("-", 2)[0] for label in root.run("search").split()]
            (path / "fetched").mkdir()
            root.run("fetch", "-o", path / "fetched", *named, code=None)
            fetched = {file.name for file in (path / "fetched").iterdir()}
        there = {file.name for file in folder.glob("*/*.apk")}
        return "" if fetched == there else f"APKINDEX brings {fetched}, there are {there}"


BASES: Mapping[str, Base] = {base.name: base for base in (Debian(), Alpine())}


def prepare(base: Base, share: Path) -> None:
    """Make ready what runs inside; by this directory it knows which base it is."""
    base.prepare(share)
    (share / NAME).write_text(base.name)


def find_base(share: Path) -> Base:
    """The one that `prepare` was called for."""
    return BASES[(share / NAME).read_text()]
