"""The kernels on the ESP: one directory each, written so that no power cut can hurt.

    kernels/<name>/vmlinuz, initramfs   what GRUB loads
    kernels/<name>/sha256               what GRUB compares them with
    kernels/<name>/complete             written last: without it the directory does not exist

Owns: these directories. Refuses: renaming over, truncating or changing anything that is there,
and deleting the last complete kernel. Invariants: a directory with `complete` was durable and was
read back; deleting takes `complete` away first. A name is the kernel's version; when that is taken
by another build of the same version it is `<version>+2`, and so on. The modules image on persist
bears the same name, so that each build keeps its own modules: nothing that boots is ever replaced.
"""

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.boot.grubenv import BootEnv
from ramos.errors import DamagedError, RamosError, RefusedError, UsageError
from ramos.layout import kernel_version
from ramos.linux.fs import crash_point, hash_file, sync_directory
from ramos.sizes import format_size
from ramos.store.generation import StoredFile

COMPLETE = "complete"
SUMS = "sha256"
VMLINUZ = "vmlinuz"
INITRAMFS = "initramfs"
# FAT writes whole clusters, and a directory takes one more.
CLUSTER_BYTES = 32768
RESERVE_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20
COMMAND_LINE = Path("/proc/cmdline")
RELEASE_NUMBER = re.compile(r"[0-9]+(?:[.-][0-9]+)*")


@dataclass(frozen=True)
class KernelFiles:
    """What a kernel directory is made of, before it is written."""

    version: str
    vmlinuz: Path
    initramfs: Path
    # An image that is ready under a temporary name, or that of the kernel it is another build of.
    modules: Path

    @property
    def size_bytes(self) -> int:
        """What it takes on the ESP."""
        sizes = (self.vmlinuz.stat().st_size, self.initramfs.stat().st_size)
        return sum(sizes) + 5 * CLUSTER_BYTES


def list_complete(esp: Path) -> list[str]:
    """The names of the kernels that GRUB would load."""
    found = (esp / layout.KERNELS_DIR).glob(f"*/{COMPLETE}")
    return sorted(path.parent.name for path in found if not path.parent.is_symlink())


def list_all(esp: Path) -> list[str]:
    """The names of all directories, also of what an interrupted write left."""
    folder = esp / layout.KERNELS_DIR
    # FAT has no links; one on another file system is nobody's kernel, and is not followed.
    real = (path for path in folder.iterdir() if not path.is_symlink()) if folder.is_dir() else ()
    return sorted(path.name for path in real)


def read_command_line(text: str, version: str) -> str:
    """The directory that GRUB loaded this kernel from; without GRUB's word, the version."""
    folder = re.escape(layout.KERNELS_DIR)
    match = re.match(rf"BOOT_IMAGE=\S*/{folder}/([^/\s]+)/{VMLINUZ}(?:\s|$)", text)
    return match[1] if match and kernel_version(match[1]) == version else version


def read_running_kernel(version: str = "") -> str:
    """The directory of the running kernel."""
    text = COMMAND_LINE.read_text(encoding="ascii", errors="replace")
    return read_command_line(text, version or os.uname().release)


def choose_name(
    esp: Path, persist: Path, files: KernelFiles, stored: Iterable[StoredFile] = ()
) -> tuple[str, bool]:
    """The name for a kernel, and whether exactly this kernel is there already.

    `stored` are the files that generations name: a name whose image they know otherwise is taken.
    """
    complete = set(list_complete(esp))
    wanted, modules = render_sums(files), hash_file(files.modules)
    known = [(file.path, file.sha256) for file in stored]
    revision = 1
    while True:
        name = files.version if revision == 1 else f"{files.version}+{revision}"
        image = persist / layout.modules_image(name)
        digests = {digest for path, digest in known if path == image.name}
        digests |= {hash_file(image)} if image.is_file() else set()
        if name not in complete and digests <= {modules}:
            return name, False
        same = name in complete and image.is_file() and digests <= {modules}
        if same and _read_sums(esp, name) == wanted and is_whole(esp, name):
            return name, True
        revision += 1


def render_sums(files: KernelFiles) -> str:
    """The file that GRUB's hashsum reads."""
    return f"{hash_file(files.vmlinuz)}  {VMLINUZ}\n{hash_file(files.initramfs)}  {INITRAMFS}\n"


def is_whole(esp: Path, name: str) -> bool:
    """Whether a kernel's files are what its sums say, read from the device."""
    folder = esp / layout.KERNELS_DIR / name
    try:
        for line in _read_sums(esp, name).splitlines():
            digest, _, file = line.partition("  ")
            if hash_file(folder / file, direct=True) != digest:
                return False
    except OSError:
        return False
    return True


def require_space(esp: Path, chosen: Mapping[str, KernelFiles]) -> None:
    """Refuse before anything is written."""
    state = os.statvfs(esp)
    free = state.f_bavail * state.f_frsize
    needed = sum(files.size_bytes for files in chosen.values()) + RESERVE_BYTES
    if free < needed:
        raise RefusedError(
            "not enough space on the ESP",
            ", ".join(chosen),
            f"{format_size(needed)} are needed, {format_size(free)} are free",
            hint="Remove a kernel that you no longer need: ramos pkg list, then ramos pkg remove.",
        )


def write_kernel(esp: Path, name: str, files: KernelFiles) -> None:
    """Write one kernel directory; it counts from the moment that `complete` is durable."""
    folder = esp / layout.KERNELS_DIR / name
    if (folder / COMPLETE).exists():
        raise UsageError("cannot write kernel", name, "it is there already")
    delete_kernel(esp, name)
    try:
        folder.mkdir()
        sync_directory(folder.parent)
        crash_point("kernel-directory")
        _write_new(folder / VMLINUZ, files.vmlinuz)
        crash_point("kernel-vmlinuz")
        _write_new(folder / INITRAMFS, files.initramfs)
        crash_point("kernel-initramfs")
        _write_bytes(folder / SUMS, render_sums(files).encode("ascii"))
        sync_directory(folder)
        crash_point("kernel-written")
        if not is_whole(esp, name):
            reason = "the stick gave back other bytes than were written"
            raise DamagedError("cannot write kernel", name, reason)
        _write_bytes(folder / COMPLETE, f"{files.version}\n".encode("ascii"))
        sync_directory(folder)
        crash_point("kernel-complete")
    except (OSError, RamosError) as error:
        with contextlib.suppress(OSError):
            delete_kernel(esp, name)
        state = "It was taken away again; the other kernels are as they were"
        hint = "Remove a kernel that you no longer need." if _is_full(error) else ""
        raise RamosError("cannot write kernel", name, error, state, hint) from error


def delete_kernel(esp: Path, name: str) -> None:
    """Take a kernel directory away: first `complete`, so that GRUB never sees half of one."""
    folder = esp / layout.KERNELS_DIR / name
    if not folder.is_dir():
        return
    if (folder / COMPLETE).exists():
        (folder / COMPLETE).unlink()
        sync_directory(folder)
        crash_point("kernel-uncompleted")
    for path in sorted(folder.iterdir()):
        path.unlink()
    sync_directory(folder)
    folder.rmdir()
    sync_directory(folder.parent)


def check_removal(esp: Path, names: Collection[str], env: BootEnv, running: str) -> None:
    """Refuse to remove the last, the running or the good kernel."""
    complete = list_complete(esp)
    remaining = [name for name in complete if name not in names]
    for name in names:
        if name in complete and not remaining:
            raise _refuse(name, "it is the last kernel on this stick")
        if name == running:
            raise _refuse(name, "it is the one that runs now")
        if name == env.good:
            raise _refuse(name, "it is the one that is known to boot")


def plan_removal(complete: Iterable[str], env: BootEnv, running: str, keep: int = 2) -> list[str]:
    """Kernels that are old and not needed: not good, not on trial, not running, not newest.

    While one is on trial nothing goes: the old ones are what the stick falls back to.
    """
    names = list(complete)
    if env.trial or env.good not in names:
        return []
    kept = {env.good, running} & set(names)
    others = [name for name in sorted(names, key=version_key, reverse=True) if name not in kept]
    spare = max(0, keep - len(kept))
    return sorted(others[spare:])


def list_leftovers(esp: Path, complete: Collection[str]) -> list[str]:
    """Directories that an interrupted write or removal left."""
    return [name for name in list_all(esp) if name not in complete]


def version_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts kernel versions as people read them: 6.1.0-9 before 6.1.0-10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def choose_trial(names: Iterable[str], running: str, named: Collection[str]) -> str:
    """Which of several kernels is tried: the newest; of equal ones that of the running kind.

    Then one of those that a metapackage names, and last the newest build.
    """

    def rank(name: str) -> tuple[object, ...]:
        numbers, kind = _split_version(kernel_version(name))
        same_kind = kind == _split_version(kernel_version(running))[1]
        return version_key(numbers), same_kind, kernel_version(name) in named, version_key(name)

    return max(names, key=rank)


def _split_version(version: str) -> tuple[str, str]:
    """6.1.0-40-cloud-amd64 is number 6.1.0-40 of the kind -cloud-amd64."""
    match = RELEASE_NUMBER.match(version)
    number = match[0] if match else ""
    return number, version[len(number) :]


def _refuse(name: str, reason: str) -> UsageError:
    hint = "Boot another kernel first, or install one: the boot menu lists them."
    return UsageError("cannot remove kernel", name, reason, hint=hint)


def _read_sums(esp: Path, name: str) -> str:
    try:
        return (esp / layout.KERNELS_DIR / name / SUMS).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


def _write_new(path: Path, source: Path) -> None:
    """A new file on the ESP, durable and out of the page cache, so that reading asks the stick."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb", buffering=0) as file, source.open("rb") as data:
        while chunk := data.read(CHUNK_BYTES):
            file.write(chunk)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _write_bytes(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(data)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    if hash_file(path, direct=True) != hashlib.sha256(data).hexdigest():
        raise OSError(errno.EIO, "the stick gave back other bytes than were written")
