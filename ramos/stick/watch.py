"""The stick that this system runs from: gone, back, or another one.

Owns: its identity, remembered in RAM, letting go of it, and what is done when it returns. Refuses:
any stick but the one we started from. Invariants: persist of the returned stick is mounted only
after its identity was checked, and counts as usable only after the default's layers were read and
compared; what can be done without starting a program is (the programs lie on the stick).
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ramos import layout
from ramos.booted import Boot
from ramos.errors import RamosError, find_reason
from ramos.layout import Places
from ramos.linux import run, syscalls
from ramos.linux.fs import hold_lock
from ramos.linux.mounts import find_mount
from ramos.progress import OnProgress, Progress
from ramos.stick import identity
from ramos.stick.check import is_device_there, read_written_bytes
from ramos.stick.identity import Identity
from ramos.store import generations, public
from ramos.store.failures import SOUND

IDENTITY_FILE = "stick.json"
LOOPS_FILE = "loops.json"
LOOPS = Path("/sys/block")
MOUNT_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOATIME
MOUNT_OPTIONS = "commit=30,errors=remount-ro"
FSCK_SECONDS = 600
FSCK_FAILED = 4
LOCK_SECONDS = 60.0
# What the kernel puts behind such a name.
DELETED = " (deleted)"
SHOWN_USERS = 5


def remember_stick(boot: Boot, directory: Path = layout.RUN_DIR) -> Identity | None:
    """Who the stick is; the first look of a boot counts, whatever is plugged in later."""
    path = directory / IDENTITY_FILE
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Identity(**json.loads(path.read_text(encoding="utf-8")))
    backing = identity.find_backing(Path(boot.persist)) if boot.persist else None
    if backing is None:
        return None
    seen = identity.read_identity(backing)
    if seen.uuid:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(seen)), encoding="utf-8")
    return seen if seen.uuid else None


def is_there(persist: Path = layout.PERSIST_DIR) -> bool:
    """Whether the device that persist is mounted from still exists."""
    mount = find_mount(persist)
    return mount is not None and is_device_there(mount.device)


def judge(known: Identity, node: Path) -> str:
    """Whether a partition that appeared is "same", "other" (our label, or its copy) or ""."""
    seen = identity.read_identity(node)
    if identity.is_same(known, seen):
        return "same"
    alike = seen.uuid == known.uuid or seen.label == layout.PERSIST_LABEL
    return "other" if seen.uuid and alike else ""


def find_returned(known: Identity) -> Path | None:
    """The partition of our stick, if it is plugged in."""
    for entry in sorted(identity.SYS_BLOCK.iterdir()):
        node = Path("/dev", entry.name)
        if (
            not entry.name.startswith(("loop", "zram", "ram", "dm-"))
            and judge(known, node) == "same"
        ):
            return node
    return None


def return_stick(node: Path, on_progress: OnProgress, persist: Path = layout.PERSIST_DIR) -> str:
    """Make a returned stick usable again; what is to be told of it."""
    on_progress(Progress("replaying the journal", 0, 100))
    check_filesystem(node)
    on_progress(Progress("mounting it", 10, 100))
    remount(node, persist)
    on_progress(Progress("reviving the images", 20, 100))
    with hold_loops():
        dead = list_dead_loops()
        reasons = {
            file: revive_loop(Path("/dev", loop), persist / file) for loop, file in dead.items()
        }
    failed = [f"{file}: {reason}" for file, reason in reasons.items() if reason]
    verify_default(persist, on_progress)
    public.publish(layout.RUN_DIR, SOUND)
    text = "the stick is back, its journal is replayed, its newest generation is intact: "
    text += "saves work again."
    if failed:
        text += f" Some images stay dead until a reboot ({'; '.join(failed)})."
    elif dead:
        text += " The system's own files can be read again as well."
    return text


@contextlib.contextmanager
def hold_loops(run_dir: Path = layout.RUN_DIR) -> Iterator[None]:
    """Nobody else changes what the loop devices read."""
    with hold_lock(run_dir / "locks/loops", "changing what is mounted", LOCK_SECONDS):
        yield


def list_loops(persist: Path) -> dict[str, str]:
    """The loop devices over files on persist, and those files below it."""
    found = {}
    for entry in sorted(LOOPS.glob("loop*/loop/backing_file")):
        with contextlib.suppress(OSError, ValueError):
            file = Path(entry.read_text(errors="surrogateescape").rstrip("\n"))
            found[entry.parent.parent.name] = str(file.relative_to(persist))
    return found


def remember_loops(persist: Path = layout.PERSIST_DIR, directory: Path = layout.RUN_DIR) -> None:
    """Note, while the stick is there, which image each loop device reads."""
    text = json.dumps(list_loops(persist))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / LOOPS_FILE).write_text(text, encoding="utf-8")


def list_dead_loops(directory: Path = layout.RUN_DIR) -> dict[str, str]:
    """Those of the noted loop devices that still read the same name, wherever it was mounted.

    A copy in RAM is not dead.
    """
    with contextlib.suppress(OSError, ValueError):
        noted = json.loads((directory / LOOPS_FILE).read_text(encoding="utf-8"))
        backing = {loop: read_backing(loop) for loop in noted}
        return {
            loop: file
            for loop, file in noted.items()
            if backing[loop].endswith(f"/{file}")
            and not backing[loop].startswith(f"{directory}/ram/")
        }
    return {}


def read_backing(loop: str) -> str:
    """The file that a loop device reads, or ""."""
    return _read_backing(loop).removesuffix(DELETED)


def is_replaced(loop: str) -> bool:
    """Whether the name of that file is gone, or another file's."""
    return _read_backing(loop).endswith(DELETED)


def _read_backing(loop: str) -> str:
    try:
        text = (LOOPS / loop / "loop/backing_file").read_text(errors="surrogateescape")
    except OSError:
        return ""
    return text.rstrip("\n")


def check_filesystem(node: Path) -> None:
    """Replay the journal and repair what can be repaired without asking.

    Where e2fsck itself cannot be read any more, the kernel's own replay at the mount has to do.
    """
    for option in ("-p", "-fy"):
        try:
            code = run.run(["e2fsck", option, node], check=False, timeout_seconds=FSCK_SECONDS).code
        except (OSError, RamosError):
            return
        if code < 0 or code >= 126 or code & 8:
            return  # it did not get to look: killed, unreadable, or an operational error
        if not code & FSCK_FAILED:
            return
    raise RamosError("cannot repair", node, "e2fsck -fy left errors", "It was not mounted")


def remount(node: Path, persist: Path) -> None:
    """The new device at the old place."""
    with contextlib.suppress(OSError):
        syscalls.swap_off(persist / layout.SWAPFILE)
    while find_mount(persist) is not None:
        syscalls.unmount(persist, lazily=True)
    try:
        syscalls.mount(node, persist, "ext4", MOUNT_FLAGS, MOUNT_OPTIONS)
    except OSError as error:
        raise RamosError("cannot mount", node, error, "Saves stay refused") from error


def release_stick(places: Places) -> None:
    """Nothing on the stick is in use after this, and nobody saves meanwhile."""
    with hold_lock(places.lock_file, "letting go of the stick"):
        mount = find_mount(places.persist)
        if mount is None:
            return
        try:
            _end_swap(places.persist / layout.SWAPFILE)
            syscalls.sync_filesystem(places.persist)
            syscalls.unmount(places.persist)
        except OSError as error:
            hint = find_users(places.persist) if error.errno == errno.EBUSY else ""
            state = "The stick is in use and must stay in"
            raise RamosError("cannot let go of", error.filename, error, state, hint) from error
    if mount.source.startswith("/dev/mapper/"):
        run.run(["cryptsetup", "close", Path(mount.source).name])


def _end_swap(swapfile: Path) -> None:
    """Bring everything back from it; one that is absent or idle is all right."""
    try:
        syscalls.swap_off(swapfile)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def find_users(folder: Path) -> str:
    """Which programs have a file or their directory below a folder, as a hint; "" for none."""
    import psutil  # only here: the daemon's own process has no need of it

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            paths = [process.cwd(), *(file.path for file in process.open_files())]
            if any(Path(path).is_relative_to(folder) for path in paths if path):
                found.append(f"{process.name()} ({process.pid})")
    return f"In use by {', '.join(found[:SHOWN_USERS])}: end it, then try again." if found else ""


def unlock(node: Path, passphrase: bytes) -> Path:
    """Open an encrypted stick that came back, beside its dead mapping."""
    name = f"ramos-persist-{node.name}"
    run.run(["cryptsetup", "open", "--key-file", "-", node, name], stdin=passphrase)
    return Path("/dev/mapper", name)


def revive_loop(loop: Path, file: Path) -> str:
    """Let a loop device read the same file on the new device; why not, or ""."""
    try:
        syscalls.change_loop_file(loop, file)
    except OSError as error:
        return find_reason(error)
    return ""


def verify_default(persist: Path, on_progress: OnProgress) -> None:
    """Read all that the default consists of beside the base images, and compare."""
    default = generations.read_default(persist)
    files = default.saved if default else ()
    for number, file in enumerate(files):
        done = 30 + 70 * number / len(files)
        on_progress(Progress("reading it back", done, 100, file.path))
        damage = generations.find_damage(persist, file)
        if damage is not None:
            state = "Older generations may still be whole: 'ramos verify --all'"
            raise RamosError("the returned stick is damaged", file.path, damage, state)
    os.sync()


def read_boot_bytes(persist: Path = layout.PERSIST_DIR) -> int:
    """What was written to the stick since it was plugged in, as the kernel counts it."""
    mount = find_mount(persist)
    disk = identity.name_disk(Path(mount.source)) if mount else ""
    number = ""
    with contextlib.suppress(OSError):
        number = (identity.SYS_BLOCK / disk / "dev").read_text(encoding="ascii").strip()
    return (read_written_bytes(number) or 0) if disk and number else 0
