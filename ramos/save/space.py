"""How much a save may write: what is free on persist, less the reserve.

Owns: that number. Refuses: guessing how well something compresses. Invariant: what is written
under the limit that this gives leaves the reserve untouched.
"""

import os

from ramos.config import SaveConfig
from ramos.errors import RefusedError
from ramos.layout import Places

MIB = 1 << 20
LEAST_ROOM_BYTES = MIB


def read_free_bytes(places: Places) -> int:
    """What is free on persist."""
    status = os.statvfs(places.persist)
    return status.f_bavail * status.f_frsize


def check_room(places: Places, config: SaveConfig) -> int:
    """How many bytes a layer may have."""
    free = read_free_bytes(places)
    room = free - config.reserve_mib * MIB
    if room < LEAST_ROOM_BYTES:
        raise RefusedError(
            "cannot save to",
            places.persist,
            f"{free // MIB} MiB are free, and {config.reserve_mib} MiB are kept in reserve",
            hint="'ramos prune' deletes old generations; 'ramos compact' merges layers.",
        )
    return room
