"""From packages taken apart to what the stick needs: images, kernels with their initramfs.

Owns: building all of it before anything is published. Refuses: kernels without their modules.
Invariant: until `publish_images` is called only temporary names on persist and the private work
directory were written.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.boot.initramfs import build_initramfs
from ramos.boot.kernels import KernelFiles, list_complete
from ramos.errors import RamosError, RefusedError, find_reason
from ramos.layout import kernel_version
from ramos.linux import cpio
from ramos.linux.fs import TEMPORARY_SUFFIX, write_durably
from ramos.linux.kmod import name_library
from ramos.packages import trees
from ramos.packages.site import Site
from ramos.packages.unpack import Staged, find_vmlinuz
from ramos.progress import OnProgress, Progress
from ramos.store import images
from ramos.store.generation import StoredFile
from ramos.store.generations import read_default

MICROCODE_DIR = "microcode"
# What left a package: lines `kernel VERSION` and `firmware PATH`, one file for each package.
LEFT_DIR = "left"
# The kernel looks for these two names at the front of the initramfs.
MICROCODE_FILES = {
    "intel-ucode": "kernel/x86/microcode/GenuineIntel.bin",
    "amd-ucode": "kernel/x86/microcode/AuthenticAMD.bin",
}
# Where the packages of each base have it, in a tree that nothing was taken from.
MICROCODE_PLACES = {
    "alpine": {"amd-ucode": "boot/amd-ucode.img", "intel-ucode": "boot/intel-ucode.img"},
    "debian": {
        "amd64-microcode": "lib/firmware/amd-ucode",
        "intel-microcode": "lib/firmware/intel-ucode",
    },
}


@dataclass(frozen=True)
class Prepared:
    """Everything that is ready to be published."""

    firmware: Path | None
    kernels: tuple[KernelFiles, ...]
    microcode: dict[str, bytes]
    left: dict[str, list[str]]

    @property
    def temporaries(self) -> list[Path]:
        """The images under their temporary names."""
        modules = [files.modules for files in self.kernels]
        return [*modules, *([self.firmware] if self.firmware else [])]

    def name_images(self, kernels: Iterable[str]) -> list[str]:
        """The names that the images will have, with those of the kernels that are written."""
        names = [layout.modules_image(name) for name in kernels]
        if self.firmware is not None:
            names.append(images.firmware_name(self.firmware))
        return names

    def publish_images(self, site: Site, kernels: Mapping[str, KernelFiles]) -> int:
        """Give the images their names; the number of the generation that names them, or 0."""
        changed: list[StoredFile] = []
        for name, files in kernels.items():
            changed.append(images.publish_modules(site.persist, name, files.modules))
        if self.firmware is not None:
            changed.append(images.publish_firmware(site.persist, self.firmware))
        for package, lines in self.left.items():
            if _tells_firmware(lines):
                _write_note(site.packages / LEFT_DIR / package, _render_lines(lines))
        if not changed:
            return 0
        words = ", ".join(file.path for file in changed)
        generation = images.publish_base(site.persist, changed, f"packages: {words}"[:200])
        return generation.number if generation else 0

    def render_notes(self) -> dict[str, bytes]:
        """What the engine remembers about the packages, as files below packages/.

        Not what left for the firmware image: an image with a name stays, also if the rest fails.
        """
        notes = {f"{MICROCODE_DIR}/{name}.img": data for name, data in self.microcode.items()}
        for package, lines in self.left.items():
            if not _tells_firmware(lines):
                notes[f"{LEFT_DIR}/{package}"] = _render_lines(lines)
        return notes


def build(site: Site, staged: Sequence[Staged], on_progress: OnProgress) -> Prepared:
    """Make images and kernels from what left the packages."""
    library = name_library(site.root)
    new_microcode = {
        p.name: make_microcode(p.places["microcode"]) for p in staged if "microcode" in p.places
    }
    microcode = _join_microcode(site, new_microcode)
    files: list[KernelFiles] = []
    sources = _find_firmware_sources(staged)
    left = _list_left(staged, sources)  # before what is listed is moved into the images' trees
    try:
        for package in staged:
            if not package.kernels and "kernel" in package.places:
                raise _cannot_use(package, "it brings a vmlinuz, but no modules")
            for kernel in package.kernels:
                tree = site.work / "trees" / kernel
                folders = package.list_below("modules", "modules")
                trees.arrange_modules([f for f in folders if f.name == kernel], tree, library)
                vmlinuz = _need_vmlinuz(package)
                on_progress(Progress(f"building the initramfs of {kernel}"))
                built = _build_kernel(site, kernel, vmlinuz, tree, microcode)
                files.append(built)
                on_progress(Progress(f"packing the modules of {kernel}"))
                trees.pack_image(tree, built.modules)
        if not files and any("initramfs" in package.recipe.after for package in staged):
            files.append(_rebuild_running(site, microcode, on_progress))
        firmware = build_firmware(site, sources, (), on_progress) if sources else None
    except BaseException:
        for kernel_files in files:
            kernel_files.modules.unlink(missing_ok=True)
        raise
    return Prepared(firmware, tuple(files), new_microcode, left)


def _temporary(site: Site, name: str) -> Path:
    return site.persist / f"{name}{TEMPORARY_SUFFIX}"


def _write_note(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, data)


def _render_lines(lines: Iterable[str]) -> bytes:
    return os.fsencode("".join(f"{line}\n" for line in lines))


def _tells_firmware(lines: Iterable[str]) -> bool:
    return any(line.startswith("firmware ") for line in lines)


def _need_vmlinuz(package: Staged) -> Path:
    vmlinuz = find_vmlinuz(package)
    if vmlinuz is None:
        raise _cannot_use(package, "it brings modules, but no vmlinuz")
    return vmlinuz


def _cannot_use(package: Staged, reason: str) -> RamosError:
    return RefusedError("cannot use kernel package", package.name, reason)


def _build_kernel(
    site: Site, kernel: str, vmlinuz: Path, tree: Path | None, microcode: bytes
) -> KernelFiles:
    initramfs = site.work / f"initramfs-{kernel}"
    build_initramfs(site.root, kernel, initramfs, source_date_epoch=0, modules_root=tree)
    if microcode:
        initramfs.write_bytes(microcode + initramfs.read_bytes())
    return KernelFiles(kernel, vmlinuz, initramfs, _temporary(site, layout.modules_image(kernel)))


def _rebuild_running(site: Site, microcode: bytes, on_progress: OnProgress) -> KernelFiles:
    """The running kernel once more, with another initramfs and the same modules."""
    vmlinuz = site.work / "vmlinuz-running"
    version = kernel_version(site.running)
    on_progress(Progress(f"building the initramfs of {version}"))
    with site.open_esp(False) as esp:
        source = esp / layout.KERNELS_DIR / site.running / "vmlinuz"
        if site.running not in list_complete(esp):
            raise _cannot_rebuild(site, "it is not on the ESP")
        shutil.copyfile(source, vmlinuz)
    files = _build_kernel(site, version, vmlinuz, None, microcode)
    files.modules.unlink(missing_ok=True)
    try:
        os.link(images.find_modules(site.persist, site.running), files.modules)
    except OSError as error:
        raise _cannot_rebuild(site, f"its modules image: {find_reason(error)}") from error
    return files


def _cannot_rebuild(site: Site, reason: str) -> RamosError:
    return RefusedError("cannot rebuild kernel", site.running, reason)


def _find_firmware_sources(staged: Sequence[Staged]) -> dict[str, Path]:
    sources: dict[str, Path] = {}
    for package in staged:
        for root in ("usr/lib/firmware", "lib/firmware"):
            folder = package.places["firmware"] / root if "firmware" in package.places else None
            if folder is not None and folder.is_dir():
                sources[package.name] = folder
    return sources


def build_firmware(
    site: Site, sources: Mapping[str, Path], removed: Iterable[str], on_progress: OnProgress
) -> Path:
    """The whole firmware as one new image: with packages' files, without those of others."""
    new = {name for folder in sources.values() for name in _list_files(folder)}
    old = [
        line for package in (*sources, *removed) for line in read_left(site, package, "firmware")
    ]
    on_progress(Progress("packing the firmware"))
    tree = site.work / "trees" / "firmware"
    tree.parent.mkdir(exist_ok=True)
    gone = [name for name in old if name not in new]
    library = name_library(site.root)
    trees.merge_firmware(_find_firmware_image(site), gone, sources.values(), tree, library)
    temporary = _temporary(site, "firmware-new.squashfs")
    trees.pack_image(tree, temporary)
    return temporary


def _find_firmware_image(site: Site) -> Path | None:
    image = site.persist / images.find_firmware(site.persist, read_default(site.persist))
    return image if image.is_file() else None


def _list_files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


def _list_left(staged: Sequence[Staged], sources: Mapping[str, Path]) -> dict[str, list[str]]:
    left: dict[str, list[str]] = {}
    for package in staged:
        lines = [f"kernel {kernel}" for kernel in package.kernels]
        if package.name in sources:
            lines += [f"firmware {name}" for name in _list_files(sources[package.name])]
        if lines:
            left[package.name] = lines
    return left


def read_left(site: Site, package: str, kind: str) -> list[str]:
    """What left a package for the stick: its kernels, or its firmware files."""
    path = site.packages / LEFT_DIR / package
    lines = os.fsdecode(path.read_bytes()).splitlines() if path.is_file() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{kind} ")]


def forget_left(site: Site, package: str) -> None:
    """A package is gone, and what it had left on the stick too."""
    (site.packages / LEFT_DIR / package).unlink(missing_ok=True)
    (site.packages / MICROCODE_DIR / f"{package}.img").unlink(missing_ok=True)


def _join_microcode(site: Site, new: Mapping[str, bytes]) -> bytes:
    """What stands at the front of each initramfs."""
    stored = {path.stem: path for path in (site.packages / MICROCODE_DIR).glob("*.img")}
    names = sorted({*stored, *new})
    return b"".join(new[name] if name in new else stored[name].read_bytes() for name in names)


def find_microcode(base: str, tree: Path) -> dict[str, bytes]:
    """What a fresh tree has for the front of its initramfs, by the package's name."""
    places = {name: tree / place for name, place in MICROCODE_PLACES[base].items()}
    return {name: make_microcode(path) for name, path in places.items() if path.exists()}


def make_microcode(top: Path) -> bytes:
    """An early cpio archive: ready-made ones as they are, loose files put together."""
    paths = [path for path in (top, *sorted(top.rglob("*"))) if path.is_file()]
    data = b"".join(path.read_bytes() for path in paths if path.suffix == ".img")
    archive = cpio.Archive()
    loose = False
    for folder, name in MICROCODE_FILES.items():
        files = [path for path in paths if path.parent.name == folder and path.suffix != ".asc"]
        if files:
            loose = True
            archive.add_file(name, b"".join(path.read_bytes() for path in files))
    data += archive.render(0) if loose else b""
    return data + b"\0" * (-len(data) % 4)
