"""How much a save may write: what is free on persist, less the reserve.

Owns: that number. Refuses: guessing how well something compresses. Invariant: what is written
under the limit that this gives leaves the reserve untouched.
"""

import os

from ramos.config import SaveConfig
from ramos.errors import RefusedError
from ramos.layout import Places
from ramos.sizes import MIB, format_size

LEAST_ROOM_BYTES = MIB


def read_free_bytes(places: Places) -> int:
    """What is free on persist."""
    status = os.statvfs(places.persist)
    return status.f_bavail * status.f_frsize


def check_room(places: Places, config: SaveConfig) -> int:
    """How many bytes a layer may have."""
    free = read_free_bytes(places)
    reserve = config.reserve_mib * MIB
    room = free - reserve
    if room < LEAST_ROOM_BYTES:
        raise RefusedError(
            "cannot save to",
            places.persist,
            f"{format_size(free)} are free, and {format_size(reserve)} are kept in reserve",
            hint="'ramos prune' deletes old generations; 'ramos compact' merges layers.",
        )
    return room
