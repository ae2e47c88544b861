"""grubenv: what GRUB remembers from one boot to the next, and how it changes.

Owns: the block's format and every transition that the running system makes. Refuses: files (bytes
in, bytes out; `esp` writes them in place). Invariants: the block is one sector; whatever it holds,
GRUB finds something to boot (grub/grub.cfg counts down, this module only sets).

A boot with a kernel on trial takes one from `tries`; any other default boot takes one from
`gen_tries`. A confirmed boot makes what runs `good`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from ramos.errors import DamagedError, UsageError

SIZE_BYTES = 512
HEADER = b"# GRUB Environment Block\n"
GENERATION_TRIES = 3
KERNEL_TRIES = 2
KERNEL_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~-]*")


@dataclass(frozen=True)
class BootEnv:
    """The five variables; an empty name or a zero generation means that there is none."""

    good: str = ""
    trial: str = ""
    tries: int = 0
    gen_good: int = 0
    gen_tries: int = GENERATION_TRIES


def initial(kernel: str, generation: int = 1) -> BootEnv:
    """What a fresh stick starts with."""
    return BootEnv(good=_check_kernel(kernel), gen_good=generation)


def parse(data: bytes) -> BootEnv:
    """Read a block; a variable that makes no sense counts as not set."""
    if not data.startswith(HEADER):
        raise DamagedError("cannot read the boot environment", "grubenv", "it is not GRUB's block")
    pairs: dict[str, str] = {}
    for line in data[len(HEADER) :].decode("ascii", "replace").split("\n"):
        name, sign, value = line.partition("=")
        if sign and not name.startswith("#"):
            pairs[name] = value
    good, trial = pairs.get("good", ""), pairs.get("trial", "")
    return BootEnv(
        good=good if KERNEL_PATTERN.fullmatch(good) else "",
        trial=trial if KERNEL_PATTERN.fullmatch(trial) else "",
        tries=_read_count(pairs.get("tries", ""), 0, 9),
        gen_good=_read_count(pairs.get("gen_good", ""), 0, 999_999_999),
        gen_tries=_read_count(pairs.get("gen_tries", ""), GENERATION_TRIES, 9),
    )


def render(env: BootEnv) -> bytes:
    """Write a block of exactly one sector."""
    lines = [
        f"good={env.good}",
        f"trial={env.trial}",
        f"tries={env.tries}",
        f"gen_good={env.gen_good or ''}",
        f"gen_tries={env.gen_tries}",
    ]
    block = HEADER + "".join(f"{line}\n" for line in lines).encode("ascii")
    if len(block) > SIZE_BYTES:
        reason = f"it does not fit into {SIZE_BYTES} bytes"
        raise UsageError("cannot write the boot environment", "grubenv", reason)
    return block.ljust(SIZE_BYTES, b"#")


def start_trial(env: BootEnv, kernel: str) -> BootEnv:
    """The next boots try this kernel; `good` stays what it is."""
    return replace(env, trial=_check_kernel(kernel), tries=KERNEL_TRIES)


def end_trial(env: BootEnv) -> BootEnv:
    """No kernel is on trial."""
    return replace(env, trial="", tries=0)


def arm_generation(env: BootEnv) -> BootEnv:
    """A new generation was saved: it gets its tries, also after an older one had failed."""
    return replace(env, gen_tries=GENERATION_TRIES)


def confirm(
    env: BootEnv, kernel: str, kernels: Collection[str], generation: int, newest: int
) -> BootEnv:
    """This boot works: what runs is good.

    `kernels` are the complete ones on the ESP; `generation` is 0 where none counts (backup and
    clean mode). After GRUB fell back from the newest generation, its counter stays used up:
    otherwise every other boot would try the bad one again. A save arms it.
    """
    if kernel == env.trial:
        env = replace(env, good=_check_kernel(kernel), trial="", tries=0)
    elif env.good not in kernels and kernel in kernels:
        env = replace(env, good=_check_kernel(kernel))
    if generation == 0:
        return env
    fell_back = env.gen_tries == 0 and generation != newest
    return replace(env, gen_good=generation, gen_tries=0 if fell_back else GENERATION_TRIES)


def _check_kernel(kernel: str) -> str:
    if KERNEL_PATTERN.fullmatch(kernel) is None or len(kernel) > 100:
        reason = "it is not the name of a kernel version"
        raise UsageError("cannot name a kernel", repr(kernel), reason)
    return kernel


def _read_count(text: str, default: int, limit: int) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) and int(text) <= limit else default
