"""What follows every save: the record of it, GRUB's tries, the records, what everybody may know.

Owns: `settle`, which whoever publishes a generation calls when the lock is free again. Refuses:
failing: the generation is saved and stays so. Invariant: one part that fails keeps no other back,
and is itself on record.
"""

import contextlib

from ramos.boot import confirm
from ramos.booted import read_boot
from ramos.config import load_settings
from ramos.errors import RamosError
from ramos.layout import Places
from ramos.stick import health
from ramos.stick.watch import read_boot_bytes
from ramos.store import public, records
from ramos.store.failures import SOUND


def note_failure(places: Places, what: str, error: Exception) -> None:
    """Remember what went wrong; 'ramos status' shows it."""
    records.note("failures", records.find_records(places), what=what, error=str(error))


def settle(places: Places, reason: str, **values: object) -> None:
    """Note what was saved, let GRUB try it, and take the records to the stick."""
    plain = {key: value for key, value in values.items() if isinstance(value, int | float | str)}
    public.publish(places.run, SOUND)
    records.note("commits", records.find_records(places), reason=reason, **plain)
    steps = (("arm the new generation", _arm), ("write the records", _flush))
    for what, work in steps if is_running(places) else ():  # another one has no ESP
        try:
            work(places)
        except (OSError, RamosError) as error:
            note_failure(places, what, error)
    with contextlib.suppress(OSError, RamosError):
        health.publish_health(places, health.read_health(places))


def is_running(places: Places) -> bool:
    """Whether it is this machine's own system, and none that a test has laid out."""
    return places == Places()


def _arm(places: Places) -> None:
    """Without that, GRUB goes on taking the generation before where it gave up one."""
    confirm.arm_generation(read_boot(places), places)


def _flush(places: Places) -> None:
    limit_mib = load_settings().config.health.log_mib
    folder = records.find_records(places)
    records.flush_records(places.persist, read_boot_bytes(places.persist), limit_mib, folder)
