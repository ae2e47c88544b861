"""The power is cut during the upgrade of a kernel: what would GRUB start, and does it boot?

Owns: recording a real upgrade on a stick with both partitions (one log, in the order in which the
writes reached it), and the verdict on each disk that a cut could leave. The ESP is read as it is,
by GRUB's own reader: nothing repairs a FAT before GRUB reads it; and GRUB itself chooses, by the
real menu. Persist is repaired and mounted as the boot does it. Refuses: leniency; a kernel that
GRUB would start must be whole, the one it would fall back to as well, and persist must hold the
modules of both, with the right bytes.
"""

import functools
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.boot import grubenv
from ramos.boot.kernels import COMPLETE, INITRAMFS, SUMS, VMLINUZ, is_whole, list_complete
from ramos.errors import RamosError
from ramos.image import partitions
from ramos.image.partitions import DiskLayout, make_identity
from ramos.linux.fs import hash_file
from tests.crash import bases, uml
from tests.crash.bases import Base
from tests.crash.check import Truth, Verdict, bring_up, compare, find_allowed
from tests.crash.device import plugged
from tests.crash.log import WriteLog
from tests.crash.replay import materialize
from tests.crash.states import State
from tests.crash.workloads import Recording
from tests.labs.grub import GrubDisk
from tests.labs.packagelab import make_stick

DISK = DiskLayout(size_bytes=512 << 20)
IDENTITY = make_identity("power cuts")
EPOCH = 1_700_000_000
GRUB_ESP = "(loop0,gpt1)"


def make_disk(scratch: Path, kernel: str) -> Path:
    """A stick as the image builder leaves it, with small files."""
    persist, esp = scratch / "content", scratch / "esp"
    make_stick(persist, esp, scratch, kernel)
    files = {str(p.relative_to(esp)): p for p in esp.rglob("*") if p.is_file()}
    partitions.make_esp(scratch / "esp.img", DISK.esp_bytes, files, IDENTITY.esp_serial, EPOCH)
    partitions.make_persist(scratch / "persist.img", DISK.persist_bytes, persist, IDENTITY, EPOCH)
    disk = scratch / "stick.img"
    with disk.open("wb") as file:
        file.truncate(DISK.size_bytes)
    partitions.make_table(disk, DISK, IDENTITY)
    partitions.copy_into(scratch / "esp.img", disk, DISK.esp_start)
    partitions.copy_into(scratch / "persist.img", disk, DISK.persist_start)
    return disk


def record(base: Base, scratch: Path) -> Recording:
    """Run the upgrade on a served stick; its log, and what the stick holds before and after."""
    bases.prepare(base, scratch)
    with plugged(make_disk(scratch, base.old), scratch / "stick") as stick:
        uml.run_inside("tests.crash.upgrade_inside", [stick.disk], scratch)
        log = stick.read_log()
    disk, target = scratch / "disk", scratch / "persist"
    target.mkdir()
    truths = []
    for cut in (0, len(log.records)):
        materialize(log, State(cut, cut, (), ""), disk)
        esp = read_esp(disk)
        _, truth, reason = bring_up(disk, target, DISK.persist_start)
        assert truth is not None, reason
        truths.append(Truth(truth.default, {**truth.files, **esp.files}))
    return Recording(log, truths, functools.partial(judge, base))


@dataclass(frozen=True)
class Esp:
    """What GRUB finds: the kernel it starts, the one it falls back to, and all complete ones."""

    chosen: str
    good: str
    files: dict[str, str]


def read_esp(disk: Path) -> Esp:
    """Read the ESP of a disk as GRUB does; what is in it, and what starts, the product says."""
    with tempfile.TemporaryDirectory() as scratch:
        esp = Path(scratch)
        for name in _list(disk, f"{layout.KERNELS_DIR}/"):
            folder = f"{layout.KERNELS_DIR}/{name}"
            present = set(_list(disk, f"{folder}/"))
            if COMPLETE not in present:
                continue  # nobody reads it, and a cut may have left names without a file
            (esp / folder).mkdir(parents=True)
            for file in present & {COMPLETE, SUMS, VMLINUZ, INITRAMFS}:
                (esp / folder / file).write_bytes(_read(disk, f"{folder}/{file}"))
        complete = list_complete(esp)
        whole = [name for name in complete if is_whole(esp, name)]
        files = {
            path: hash_file(esp / path)
            for name in complete
            for file in (VMLINUZ, INITRAMFS)
            if (esp / (path := f"{layout.KERNELS_DIR}/{name}/{file}")).exists()
        }
    block = _read(disk, layout.GRUBENV)
    good = grubenv.parse(block).good
    if good not in whole:
        raise ValueError(f"the kernel to fall back to, {good!r}, is not whole")
    return Esp(ask_menu(block, tuple(complete), tuple(whole)), good, files)


@functools.cache
def ask_menu(block: bytes, complete: tuple[str, ...], whole: tuple[str, ...]) -> str:
    """The kernel that the real GRUB starts by our menu, with kernels that are whole or not."""
    with tempfile.TemporaryDirectory() as scratch:
        grub = GrubDisk(Path(scratch))
        grub.put(block, layout.GRUBENV)
        for name in complete:
            grub.add_kernel(name, damaged=name not in whole)
        return grub.boot().kernel


def _list(disk: Path, path: str) -> list[str]:
    words = _ask_grub(disk, "ls", path).decode("utf-8", "replace").split()
    return [word.rstrip("/") for word in words]


def _read(disk: Path, path: str) -> bytes:
    return _ask_grub(disk, "cat", path)


def _ask_grub(disk: Path, command: str, path: str) -> bytes:
    words = ["grub-fstest", str(disk), command, f"{GRUB_ESP}/{path}"]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.decode("utf-8", "replace").strip())
    return done.stdout


def judge(
    base: Base, log: WriteLog, state: State, disk: Path, truths: list[Truth], target: Path
) -> Verdict:
    """What the disk of a state comes up as, and whether it may."""
    old, new = find_allowed(log, state.cut)
    interrupted = old != new
    try:
        esp = read_esp(disk)
    except (ValueError, RamosError) as error:
        return Verdict("neither", "ESP", f"ESP: {error}", interrupted)
    rung, found, reason = bring_up(disk, target, DISK.persist_start)
    if found is None:
        return Verdict("neither", rung, f"persist: {reason}", interrupted)
    both = Truth(found.default, {**found.files, **esp.files})
    allowed = {(base.old, base.new)[at] for at in (old, new)}
    problem = compare(both, truths[old], truths[new]) or check_choice(esp, both, allowed)
    if problem:
        return Verdict("neither", rung, problem, interrupted)
    return Verdict("new" if esp.chosen == base.new else "old", rung, "", interrupted)


def check_choice(esp: Esp, found: Truth, allowed: set[str]) -> str:
    """Why what GRUB starts must not be, or cannot boot; nothing when all is well."""
    if esp.chosen not in allowed:
        return f"GRUB starts {esp.chosen}"
    for name in {esp.chosen, esp.good}:
        image = layout.modules_image(name)
        if image not in found.files:
            return f"GRUB can start {name}, and no generation names {image}"
    return ""
