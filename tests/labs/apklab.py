"""Real root trees under the real apk, for the tests of Alpine's packages.

It is the one of the lab's Alpine. `RAMOS_APK` names another or several, with `:` between them:
every test runs with each of them.
"""

import os
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ramos.packages import alpine, change, engine
from ramos.packages.site import Site
from ramos.progress import Progress
from tests.labs import alpine_mirror, alpine_root, apk_tools
from tests.labs.alpine_mirror import (
    ARCH,
    FIRMWARE_NONE,
    MKINITFS,
    Content,
    Mirror,
    Spec,
)
from tests.labs.packagelab import BUILTIN, make_site, make_stick, mount_root

# What apk says of itself: it wants a root that is not in RAM, or else a cache.
TEXT_TREE = ("lib/apk", "etc/apk", "var/log", "dev", "proc", "tmp", "var/cache", "run")


def name_version(apk: Path) -> str:
    """`2.14.10`, or whatever it is."""
    text = subprocess.run([apk, "--version"], capture_output=True, text=True, check=True).stdout
    return text.split()[1].rstrip(",")


@dataclass(frozen=True)
class Root:
    """A root tree and the real apk that looks after it."""

    apk: Path
    path: Path

    @property
    def is_old(self) -> bool:
        """Whether this is apk 2."""
        return name_version(self.apk).startswith("2.")

    def run(self, *words: str | Path, code: int | None = 0) -> str:
        """Run apk on this root; what it printed. `code` is the exit status that it must have."""
        argv = [self.apk, "--root", self.path, "--no-progress", "--no-interactive", *words]
        done = subprocess.run(argv, capture_output=True, check=False, cwd="/")
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert code is None or done.returncode == code, f"{argv}: {done.returncode}\n{text}"
        return text

    def list_files(self) -> dict[str, tuple[object, ...]]:
        """All that is on it, but for apk's own state."""
        found = apk_tools.list_tree(self.path)
        return {n: v for n, v in found.items() if not n.startswith(TEXT_TREE)}

    def read_world(self) -> list[str]:
        return (self.path / "etc/apk/world").read_text().split()

    def read_record(self, name: str) -> list[str]:
        """The lines of a package in the database."""
        text = (self.path / "lib/apk/db/installed").read_text(errors="surrogateescape")
        records = [record.strip("\n").split("\n") for record in text.split("\n\n")]
        return next((lines for lines in records if f"P:{name}" in lines), [])


def make_root(apk: Path, path: Path, keys: Path, *repositories: str) -> Root:
    """An empty root that trusts these keys and knows these repositories."""
    (path / "etc/apk/keys").mkdir(parents=True)
    for key in keys.iterdir():
        (path / "etc/apk/keys" / key.name).write_bytes(key.read_bytes())
    (path / "etc/apk/repositories").write_text("".join(f"{line}\n" for line in repositories))
    root = Root(apk, path)
    root.run("--arch", ARCH, "--initdb", "add")
    return root


def sign_index(unsigned: Path, key: Path, output: Path) -> None:
    """Put a signature before an index as abuild-sign does: with openssl, tar and gzip."""
    data = unsigned.read_bytes()
    signature = apk_tools.run_tool("openssl", "dgst", "-sha1", "-sign", key, stdin=data)
    entry = {f".SIGN.RSA.{key.name}.pub": signature}
    output.write_bytes(apk_tools.run_tool("gzip", "-9n", stdin=apk_tools.cut_tar(entry)) + data)


@dataclass
class Lab:
    """A system whose kernel came as the image builder installs it, its stick and its mirror."""

    site: Site
    esp: Path
    mirror: Mirror
    root: Root
    said: list[str] = field(default_factory=list)
    published: float = field(default_factory=time.time)

    def say(self, seen: Progress) -> None:
        self.said.append(seen.detail or seen.step)

    def upgrade(self) -> engine.Report:
        with engine.workplace(self.site):
            change.recover(self.site)
            engine.refresh(self.site, self.say)
            return engine.bring(self.site, engine.find_newer(self.site), self.say)

    def add(self, *names: str) -> engine.Report:
        with engine.workplace(self.site):
            change.recover(self.site)
            engine.refresh(self.site, self.say)
            return engine.add(self.site, names, self.say)

    def remove(self, *names: str) -> engine.Report:
        with engine.workplace(self.site):
            change.recover(self.site)
            return engine.remove(self.site, names, self.say)

    def publish(self, *specs: Spec) -> None:
        """The mirror has these now, and no other versions of them."""
        for spec in specs:
            for path in self.mirror.folder(spec.repository).glob(f"{spec.name}-[0-9]*.apk"):
                path.unlink()
            alpine_mirror.add_package(self.mirror, spec)
        alpine_mirror.write_indexes(self.mirror)
        # Over HTTP an index that is no younger than apk's copy would count as unchanged.
        self.published += 60
        for index in self.mirror.path.glob(f"{alpine_mirror.BRANCH}/*/{ARCH}/APKINDEX.tar.gz"):
            os.utime(index, (self.published, self.published))

    def read_triggered(self) -> list[str]:
        """What the watcher's trigger was called for since the last time."""
        path = self.root.path / "etc/triggered"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def stick(self) -> dict[str, bytes]:
        """Every file on the stick but those of the package engine itself."""
        tops = (self.site.persist, self.esp)
        paths = (path for top in tops for path in sorted(top.rglob("*")) if path.is_file())
        return {str(p): p.read_bytes() for p in paths if "packages" not in p.parts}


OLD, NEW = "6.12.40-0-lts", "6.12.60-0-lts"
FAILING = "#!/bin/sh\necho this script must never run\nexit 1\n"
WATCHER = Spec(
    "watcher",
    {"usr/share/watcher": b""},
    triggers="/lib/modules/* /boot /usr/share/*",
    scripts={"trigger": '#!/bin/sh\nprintf "%s\\n" "$@" >>/etc/triggered\n'},
)
HTOP = Spec("htop", {"usr/bin/htop": b"#!/bin/sh\n"}, version="3.0-r0")


def make_kernel(release: str, version: str, name: str = "linux-lts", **more: object) -> Spec:
    """A kernel package as Alpine has them, small, with scripts and triggers that must not run."""
    modules = f"lib/modules/{release}"
    files: dict[str, Content] = {
        "boot/vmlinuz-lts": f"kernel {release}".encode() * 1000,
        f"boot/config-{release}": b"CONFIG_X=y\n",
        f"boot/System.map-{release}": b"0 x\n",
        f"{modules}/modules.builtin": BUILTIN.encode(),
        f"{modules}/modules.order": b"",
        f"{modules}/kernel-suffix": b"-lts\n",
        f"{modules}/vmlinuz": "/boot/vmlinuz-lts",
        "usr/share/kernel/lts/kernel.release": f"{release}\n".encode(),
    }
    depends = ["initramfs-generator", "linux-firmware-any"]
    return Spec(name, files, depends=depends, version=version, **more)  # type: ignore[arg-type]


def make_mirror(home: Path, running: str = OLD) -> Mirror:
    """It has what a system of the lab is installed from."""
    kernel = make_kernel(running, "6.12.40-r0")
    specs = [kernel, MKINITFS, FIRMWARE_NONE, WATCHER, HTOP]
    return alpine_mirror.make_mirror(home, specs)


def make_system(apk: Path, home: Path, keys: Path, repository: Path) -> Root:
    """This machine's tree under an upper, with Alpine's database and none of dpkg's."""
    root = make_root(apk, mount_root(home), keys, str(repository))
    root.run("add", "linux-lts", "linux-firmware-none", "mkinitfs", "watcher", "htop")
    return root


def make_lab(apk: Path, home: Path, running: str = OLD) -> Lab:
    """A system, its mirror, and a stick that is two directories."""
    mirror = make_mirror(home / "upstream", running)
    root = make_system(apk, home, mirror.keys, mirror.folder().parent)
    persist, esp = home / "persist", home / "esp"
    make_stick(persist, esp, home, running)
    site = replace(make_site(alpine, running, home, root.path), apk=apk)
    return Lab(site, esp, mirror, root)


each_real_apk = pytest.mark.parametrize("apk", alpine_root.EACH_TOOL, ids=str, indirect=True)
