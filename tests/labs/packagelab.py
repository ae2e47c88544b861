"""A system, its stick and its mirror, for the tests of the package engine.

The system's root is an overlay over this machine's, with the real apt and dpkg and an empty package
database; the stick is two directories.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import grubenv, kernels
from ramos.formats.apk_sign import make_key
from ramos.linux.verity import digest_file
from ramos.packages import change, debian, engine
from ramos.packages.site import Manager, Site
from ramos.progress import Progress
from ramos.store.generation import Generation, Kind, StoredFile
from ramos.store.generations import make_tree, publish_generation
from tests.labs.debmirror import KEY_BITS, Mirror

OLD, NEW = "6.1.0-1-test", "6.1.0-2-test"
BUILTIN = "".join(
    f"kernel/{name}.ko\n" for name in ("ext4", "squashfs", "loop", "overlay", "vfat", "zram")
)
FAILING = "#!/bin/sh\necho this script must never run\nexit 1\n"


def run_until(cut: str, work: Callable[[], object]) -> None:
    """Do something in another process, which is killed at a named point."""
    child = os.fork()
    if child == 0:
        os.environ["RAMOS_CRASH_AT"] = cut
        with contextlib.suppress(BaseException):
            work()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == -signal.SIGKILL, "the cut was not reached"


@dataclass
class Lab:
    """A system, its stick and its mirror."""

    site: Site
    esp: Path
    mirror: Mirror
    said: list[str] = field(default_factory=list)

    def say(self, seen: Progress) -> None:
        self.said.append(seen.detail or seen.step)

    def refresh(self) -> None:
        with engine.workplace(self.site):
            engine.refresh(self.site, self.say)

    def upgrade(self, *names: str) -> engine.Report:
        with engine.workplace(self.site):
            change.recover(self.site)
            engine.refresh(self.site, self.say)
            return engine.bring(self.site, engine.find_newer(self.site, names), self.say)

    def add(self, *names: str) -> engine.Report:
        with engine.workplace(self.site):
            change.recover(self.site)
            engine.refresh(self.site, self.say)
            return engine.add(self.site, names, self.say)

    def add_until(self, cut: str, name: str) -> None:
        """The power goes at a named point of adding a package; the next start is to follow."""
        run_until(cut, lambda: self.add(name))
        (self.site.root / "var/lib/dpkg/lock-frontend").unlink(missing_ok=True)

    def status(self, name: str) -> str:
        admin = f"--admindir={self.site.root}/var/lib/dpkg"
        argv = ["dpkg-query", admin, "-W", "-f", "${db:Status-Abbrev} ${Version}", name]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

    def apt(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["apt-get", "-y", "-q", *words], capture_output=True, text=True, check=False
        )

    def stick(self) -> dict[str, bytes]:
        """Every file on the stick but the key, for comparing before and after."""
        found = {}
        for top in (self.site.persist, self.esp):
            for path in sorted(top.rglob("*")):
                if path.is_file() and "packages" not in path.parts:
                    found[str(path)] = path.read_bytes()
        return found


def add_kernel(
    mirror: Mirror, kernel: str, version: str, *, meta: bool = True, ballast: bytes = b""
) -> None:
    """A kernel package as Debian has them, small, with scripts that must not run."""
    mirror.add(
        {
            "Package": f"linux-image-{kernel}",
            "Version": version,
            "Architecture": "amd64",
            "Depends": "initramfs-tools (>= 0.120) | linux-initramfs-tool",
        },
        {
            f"boot/vmlinuz-{kernel}": f"kernel {kernel} {version}".encode() * 1000,
            f"boot/config-{kernel}": b"CONFIG_X=y\n",
            f"lib/modules/{kernel}/modules.builtin": BUILTIN.encode(),
            f"lib/modules/{kernel}/modules.order": b"",
            f"lib/modules/{kernel}/ballast": ballast,
            f"usr/share/doc/linux-image-{kernel}/copyright": b"free\n",
        },
        scripts={"postinst": FAILING, "prerm": FAILING, "postrm": FAILING, "preinst": FAILING},
    )
    if meta:
        depends = f"linux-image-{kernel} (= {version})"
        fields = {"Package": "linux-image-test", "Version": version, "Architecture": "amd64"}
        mirror.add({**fields, "Depends": depends}, {}, scripts={"postinst": FAILING})


def add_microcode(mirror: Mirror, code: bytes) -> None:
    """Microcode as Debian has it: one file for each family of processors."""
    mirror.add(
        {"Package": "amd64-microcode", "Version": "3.1", "Architecture": "amd64"},
        {"lib/firmware/amd-ucode/microcode_amd_fam17h.bin": code},
        scripts={"postinst": FAILING},
    )


def add_firmware(mirror: Mirror, version: str, files: dict[str, bytes]) -> None:
    mirror.add(
        {"Package": "firmware-test", "Version": version, "Architecture": "all"},
        {f"lib/firmware/{name}": data for name, data in files.items()},
        scripts={"postinst": FAILING},
    )


def mount_root(tmp_path: Path) -> Path:
    """This machine's tree with an upper of its own."""
    root, upper, work = (tmp_path / name for name in ("root", "upper", "upper-work"))
    for folder in (root, upper, work):
        folder.mkdir()
    options = f"lowerdir=/,upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", root], check=True)
    return root


def make_root(tmp_path: Path) -> Path:
    """This machine's tree with an upper of its own, and no package but dpkg's bare minimum."""
    root = mount_root(tmp_path)
    for name in ("etc/apt", "var/lib/dpkg", "var/lib/apt", "var/cache/apt"):
        shutil.rmtree(root / name)
    for name in ("sources.list.d", "preferences.d", "apt.conf.d", "trusted.gpg.d"):
        (root / "etc/apt" / name).mkdir(parents=True)
    for name in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"):
        (root / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    for name in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
        (root / name).mkdir(parents=True)
    return root


def write_apt_config(tmp_path: Path, root: Path) -> Path:
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir "{root}/";\nDir::State::status "{root}/var/lib/dpkg/status";\n'
        'Dir::Bin::dpkg "/usr/bin/dpkg";\nDir::Bin::methods "/usr/lib/apt/methods";\n'
        'Dir::Bin::apt-key "/usr/bin/apt-key"; APT::Architecture "amd64";\n'
        'APT::Architectures {{ "amd64"; }};\nAPT::Sandbox::User "root";\n'
        f'DPkg::Options {{{{ "--root={root}"; }}}};\nDPkg::Path "{os.environ["PATH"]}";\n'.replace(
            "{{", "{"
        ).replace("}}", "}")
    )
    return config


def make_stick(persist: Path, esp: Path, tmp_path: Path, kernel: str = OLD) -> None:
    """A stick as built: one kernel, base images, generation 1."""
    persist.mkdir(exist_ok=True)
    (esp / "grub").mkdir(parents=True)
    (esp / "kernels").mkdir()
    (esp / "grub/grubenv").write_bytes(grubenv.render(grubenv.initial(kernel)))
    for name in ("vmlinuz", "initramfs"):
        (tmp_path / name).write_text(f"old {name}")
    modules = persist / layout.modules_image(kernel)
    files = kernels.KernelFiles(kernel, tmp_path / "vmlinuz", tmp_path / "initramfs", modules)
    kernels.write_kernel(esp, kernel, files)
    tree = tmp_path / "firmware/usr/lib/firmware"
    tree.mkdir(parents=True)
    (tree / "built-in.bin").write_bytes(b"from the build")
    image = persist / layout.FIRMWARE_IMAGE
    subprocess.run(
        ["mksquashfs", tmp_path / "firmware", image, "-quiet", "-no-progress"], check=True
    )
    for name in (layout.ROOTFS_IMAGE, layout.modules_image(kernel)):
        (persist / name).write_bytes(name.encode())
    make_tree(persist)
    base = []
    images: tuple[tuple[Kind, str], ...] = (
        ("rootfs", layout.ROOTFS_IMAGE),
        ("modules", layout.modules_image(kernel)),
        ("firmware", layout.FIRMWARE_IMAGE),
    )
    for kind, name in images:
        digests = digest_file(persist / name)
        base.append(StoredFile(kind, name, digests.size_bytes, digests.sha256, digests.verity))
    key = persist / "packages/key/ramos-stick.rsa"
    key.parent.mkdir(parents=True)
    make_key(key, KEY_BITS)
    publish_generation(persist, Generation(1, 0, 1, kernel, "build", "", tuple(base)))


def make_site(manager: Manager, running: str, home: Path, root: Path) -> Site:
    """What the engine works on, for a stick below a directory."""

    @contextlib.contextmanager
    def open_esp(writable: bool) -> Iterator[Path]:
        del writable
        yield home / "esp"

    return Site(
        manager=manager,
        persist=home / "persist",
        work=home / "work",
        running=running,
        open_esp=open_esp,
        root=root,
        recipes_dir=home / "recipes.d",
        lock_file=home / "lock",
    )


def make_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The system, its stick and an empty mirror, below a directory."""
    root = make_root(tmp_path)
    mirror = Mirror(tmp_path / "mirror")
    (root / "etc/apt/sources.list.d/test.sources").write_text(mirror.source)
    monkeypatch.setenv("APT_CONFIG", str(write_apt_config(tmp_path, root)))
    persist, esp = tmp_path / "persist", tmp_path / "esp"
    make_stick(persist, esp, tmp_path)
    site = make_site(debian, OLD, tmp_path, root)
    return Lab(site, esp, mirror)


def read_image(image: Path, tmp_path: Path) -> dict[str, bytes]:
    """What is in a squashfs."""
    folder = tmp_path / f"unpacked-{image.name}"
    tmp_path.mkdir(exist_ok=True)
    subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-d", folder, image], check=True)
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
