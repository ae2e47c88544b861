"""The confirmation that a boot works, and what the boot has to tell.

Owns: making what runs `good` in grubenv, and the record of the boot. Refuses: writing where nothing
changed. Invariant: a sector each, in place; a boot that is not confirmed is one that GRUB counts.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramos import layout
from ramos.boot import esp, grubenv, titles
from ramos.boot.kernels import list_complete, read_running_kernel
from ramos.booted import Boot, Mode
from ramos.errors import RamosError, escape
from ramos.layout import Places
from ramos.store import generations, records
from ramos.store.generation import Generation

MOTD = "motd"
KERNEL_SETTINGS = Path("/proc/sys/kernel")
# What grub.cfg gives to a kernel on trial, and what Linux has without it.
STRICT_SETTINGS = {
    "panic_on_oops": 0,
    "softlockup_panic": 0,
    "hardlockup_panic": 0,
    "hung_task_panic": 0,
    "watchdog_thresh": 10,
}


@dataclass(frozen=True)
class Attempts:
    """What GRUB remembers, and the kernels that it can choose from."""

    env: grubenv.BootEnv
    kernels: tuple[str, ...]
    written: bool = False


def read_attempts(boot: Boot) -> Attempts:
    """The state of trial and good."""
    with esp.mount_esp(boot, writable=False) as directory:
        return Attempts(esp.read_env(directory), tuple(list_complete(directory)))


def count_generation(boot: Boot) -> int:
    """The generation that a boot proves to be good: nobody chose a backup or clean one to stay."""
    return boot.generation if boot.mode is Mode.DEFAULT else 0


def confirm_boot(boot: Boot, places: Places) -> Attempts:
    """What runs is good."""
    newest = generations.read_default(places.persist)
    with esp.mount_esp(boot, writable=True) as directory:
        kernels = list_complete(directory)
        env = grubenv.confirm(
            esp.read_env(directory),
            read_running_kernel(boot.kernel),
            kernels,
            count_generation(boot),
            newest.number if newest else 0,
        )
        written = esp.write_env(directory, env)
        _write_titles(directory, boot, places, newest)
        return Attempts(env, tuple(kernels), written)


def arm_generation(boot: Boot, places: Places) -> bool:
    """A new generation was saved: the next boots may try it. Whether a write was needed."""
    newest = generations.read_default(places.persist)
    with esp.mount_esp(boot, writable=True) as directory:
        written = esp.write_env(directory, grubenv.arm_generation(esp.read_env(directory)))
        _write_titles(directory, boot, places, newest)
        return written


def _write_titles(esp_dir: Path, boot: Boot, places: Places, newest: Generation | None) -> None:
    """The menu names the generations that its entries would start.

    Words are all that is lost where it cannot: what GRUB does is written by then.
    """
    try:
        backup = generations.read_parent(places.persist, newest) if newest else None
        secret = bool(boot.luks_uuid)
        words = [titles.describe(found, secret=secret) for found in (newest, backup)]
        esp.write_titles(esp_dir, titles.render(*words))
    except (OSError, RamosError) as error:
        folder = records.find_records(places)
        records.note("failures", folder, what="name generations in the menu", error=str(error))


def release_guard(places: Places, settings: Path = KERNEL_SETTINGS) -> bool:
    """The system is up: a kernel on trial is no longer restarted for each trouble it has.

    Whether there was a guard; what it had made strict is set back to what Linux has by itself.
    """
    pipe = places.run / layout.GUARD_PIPE.name
    if not pipe.is_fifo():
        return False
    with contextlib.suppress(OSError):  # nobody reads: the guard has gone
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(descriptor, b"confirmed\n")
        os.close(descriptor)
    pipe.unlink()
    for name, value in STRICT_SETTINGS.items():
        with contextlib.suppress(OSError):  # not every kernel has every one
            (settings / name).write_text(f"{value}\n", encoding="ascii")
    return True


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
    """Have the next login told of a save that failed at the last shutdown.

    Whoever logs in reads it, and the words of an error may name any file.
    """
    last: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        text = (places.persist / layout.LOG_DIR / layout.LAST_SHUTDOWN).read_text(encoding="utf-8")
        last = dict(json.loads(text))
    if last.get("result") not in ("failed", "elsewhere"):
        return ""
    lines = [f"the save at the last shutdown did not succeed: {last.get('text', '')}."]
    if last.get("error"):
        lines.append("'sudo ramos health' says what was wrong.")
    return tell_logins(places, lines)


def tell_logins(places: Places, lines: Iterable[str]) -> str:
    """From now on each login shows these lines, once; the text that it shows."""
    message = "".join(f"RAMOS: {escape(line)}\n" for line in lines)
    motd = places.run / MOTD
    before = motd.read_text(encoding="utf-8", errors="replace") if motd.exists() else ""
    if message not in before:
        motd.write_text(before + message, encoding="utf-8")
    return message
