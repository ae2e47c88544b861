"""The confirmation that a boot works, and what the boot has to tell.

Owns: making what runs `good` in grubenv, and the record of the boot. Refuses: writing where nothing
changed. Invariant: one sector, in place; a boot that is not confirmed is one that GRUB counts.
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramos import bootenv, esp, layout, records, store
from ramos.kernels import read_running_kernel
from ramos.places import Places
from ramos.shutdown import LAST_SHUTDOWN
from ramos.stick import Boot

MOTD = "motd"


@dataclass(frozen=True)
class Attempts:
    """What GRUB remembers, and the kernels that it can choose from."""

    env: bootenv.BootEnv
    kernels: tuple[str, ...]
    written: bool = False


def read_attempts(boot: Boot) -> Attempts:
    """The state of trial and good."""
    with esp.mount_esp(boot, writable=False) as directory:
        return Attempts(esp.read_env(directory), tuple(esp.list_kernels(directory)))


def confirm_boot(boot: Boot, persist: Path) -> Attempts:
    """What runs is good."""
    generation = boot.generation if boot.mode == "default" else 0
    newest = store.read_default(persist)
    with esp.mount_esp(boot, writable=True) as directory:
        kernels = esp.list_kernels(directory)
        env = bootenv.confirm(
            esp.read_env(directory),
            read_running_kernel(boot.kernel),
            kernels,
            generation,
            newest.number if newest else 0,
        )
        return Attempts(env, tuple(kernels), esp.write_env(directory, env))


def arm_generation(boot: Boot) -> bool:
    """A new generation was saved: the next boots may try it. Whether a write was needed."""
    with esp.mount_esp(boot, writable=True) as directory:
        return esp.write_env(directory, bootenv.arm_generation(esp.read_env(directory)))


def note_boot(boot: Boot, uptime_seconds: float) -> None:
    """Remember this boot, for the next save to write down."""
    records.note(
        "boots",
        mode=boot.mode,
        generation=boot.generation,
        kernel=boot.kernel,
        confirmed_after_seconds=round(uptime_seconds, 1),
        skipped=list(boot.skipped),
    )


def tell_last_shutdown(places: Places) -> str:
    """Have the next login told of a save that failed at the last shutdown."""
    last: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        text = (places.persist / layout.LOG_DIR / LAST_SHUTDOWN).read_text(encoding="utf-8")
        last = dict(json.loads(text))
    if last.get("result") not in ("failed", "elsewhere"):
        return ""
    words = [f"RAMOS: the save at the last shutdown did not succeed: {last.get('text', '')}."]
    if last.get("error"):
        words.append(f"RAMOS: {last['error']}")
    message = "\n".join(words) + "\n"
    motd = places.run / MOTD
    before = motd.read_text(encoding="utf-8", errors="replace") if motd.exists() else ""
    if message not in before:
        motd.write_text(before + message, encoding="utf-8")
    return message
