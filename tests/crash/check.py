"""What a disk comes up as: repaired as the boot repairs it, mounted, and every hash compared.

Owns: the verdict on one state, and its own reading of a generation file. Refuses: leniency, and any
help from the engine that it judges. A disk that does not mount, a generation that is listed but not
whole, another default than the two that are allowed: each is `neither`.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.crash import mounts
from tests.crash.device import PERSIST_OPTIONS, REPOSITORY
from tests.crash.log import WriteLog
from tests.crash.states import State

# The ladder of the initramfs: the mount replays the journal; then repair, gently and then not.
LADDER: tuple[tuple[str, ...], ...] = ((), ("e2fsck", "-p"), ("e2fsck", "-f", "-y"))
REPAIRED = 3
HOOKS = REPOSITORY / "initramfs-hooks"
PICK: tuple[str | Path, ...] = (
    *("busybox", "ash", Path(__file__).with_name("pick.sh")),
    *(HOOKS, REPOSITORY / "ramos/layout.env"),
)
GENERATIONS = "upperfs/generations"
OBJECT = re.compile(r"object=[a-z]+ ([0-9]+) [0-9a-f-]+\n([0-9a-f]{64})  (\S+)\n")


@dataclass(frozen=True)
class Truth:
    """What a store holds: the number that boots, and each file that any generation consists of."""

    default: int
    files: Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """How a state came up: old, new or neither; by which rung of the ladder; and why not."""

    outcome: str
    rung: str
    reason: str = ""
    interrupted: bool = False


def read_truth(persist: Path) -> Truth:
    """Read and hash a store; raises ValueError or OSError where it is not whole."""
    files: dict[str, str] = {}
    numbers = []
    for entry in sorted(os.scandir(persist / GENERATIONS), key=lambda entry: entry.name):
        if not entry.name.isdigit():
            continue
        data = Path(entry.path).read_bytes()
        numbers.append(int(entry.name))
        files[f"{GENERATIONS}/{entry.name}"] = hashlib.sha256(data).hexdigest()
        for path, size, digest in read_objects(data, entry.name):
            found = files.get(path) or hash_plainly(persist / path)
            if (found, (persist / path).stat().st_size) != (digest, size):
                raise ValueError(f"{path} is not what generation {entry.name} names")
            files[path] = found
    return Truth(max(numbers), files)


def read_objects(data: bytes, name: str) -> list[tuple[str, int, str]]:
    """Path, size and sha256 of each file that a generation consists of, once its seal holds."""
    body, _, seal = data.decode("ascii").rpartition("end=")
    if seal != hashlib.sha256(body.encode()).hexdigest() + "\n":
        raise ValueError(f"generation {name} is damaged")
    header, _, objects = body.partition("object=")
    if f"\ngeneration={int(name)}\n" not in header:
        raise ValueError(f"generation {name} says that it is another one")
    found = OBJECT.findall(f"object={objects}")
    if 2 * len(found) != f"object={objects}".count("\n"):
        raise ValueError(f"generation {name} holds lines that are no objects")
    return [(path, int(size), digest) for size, digest, path in found]


def pick_by_boot(persist: Path, run: Path, mode: str = "default") -> tuple[str, int, list[str]]:
    """What the initramfs would boot: the mode, the generation, and what it stepped over."""
    run.mkdir(exist_ok=True)
    words = [*PICK, persist, run, mode]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    first, *skipped = done.stdout.splitlines()
    picked, number = first.split()
    return picked, int(number), skipped


def hash_plainly(path: Path) -> str:
    """The sha256 of a file as a fresh mount reads it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_allowed(log: WriteLog, cut: int) -> tuple[int, int]:
    """Which truths may be found at a cut: before and after the step under way (or twice one)."""
    marks = [record.text for record in log.records[:cut] if record.kind == "mark"]
    ended = sum(text.startswith("end") for text in marks)
    begun = sum(text.startswith("begin") for text in marks)
    return ended, begun


def judge(log: WriteLog, state: State, disk: Path, truths: list[Truth], target: Path) -> Verdict:
    """Bring the disk of a state up and compare it with what it may be."""
    old, new = find_allowed(log, state.cut)
    rung, found, reason = bring_up(disk, target)
    interrupted = old != new
    if found is None:
        return Verdict("neither", rung, reason, interrupted)
    problem = compare(found, truths[old], truths[new])
    if problem:
        return Verdict("neither", rung, problem, interrupted)
    is_new = found.default == truths[new].default and new > 0
    return Verdict("new" if is_new else "old", rung, "", interrupted)


Judge = Callable[[WriteLog, State, Path, list[Truth], Path], Verdict]


def compare(found: Truth, old: Truth, new: Truth) -> str:
    """Why this is neither the old store nor the new one, or nothing."""
    if found.default not in (old.default, new.default):
        return f"generation {found.default} boots, {old.default} or {new.default} may"
    if foreign := found.files.items() - (old.files.items() | new.files.items()):
        return f"neither old nor new: {sorted(foreign)[0][0]}"
    if missing := (old.files.items() & new.files.items()) - found.files.items():
        return f"was there before and after, and is missing: {sorted(missing)[0][0]}"
    return ""


def check_store(persist: Path) -> tuple[Truth | None, str]:
    """The whole store, by hash; and the boot must choose from it what the engine calls default."""
    found = read_truth(persist)
    picked = pick_by_boot(persist, persist.with_name("run"))
    if picked != ("default", found.default, []):
        return None, f"the boot would choose {picked} instead of {found.default}"
    return found, ""


def repair(command: tuple[str, ...], disk: Path, start_bytes: int) -> bool:
    """On a device, as in a boot: e2fsck finds no spare superblock behind an offset into a file."""
    with mounts.loop_device(disk, start_bytes=start_bytes) as device:
        return subprocess.run([*command, device], capture_output=True).returncode <= REPAIRED


def bring_up(disk: Path, target: Path, start_bytes: int = 0) -> tuple[str, Truth | None, str]:
    """The rung that made it mount, and what was found; or why there is nothing.

    Persist lies `start_bytes` into the disk.
    """
    reason = ""
    for command in LADDER:
        if command and not repair(command, disk, start_bytes):
            continue
        rung = " ".join(command) or "mount"
        try:
            flags = mounts.MS_NOATIME
            with mounts.mounted(disk, target, "ext4", PERSIST_OPTIONS, flags, start_bytes):
                try:
                    return rung, *check_store(target)
                except (OSError, ValueError) as error:
                    return rung, None, str(error)
        except OSError as error:
            reason = f"does not mount: {error}"
    return "none", None, reason
