"""What can happen to ramosd, what it can do about it, and the jobs that its children do.

Owns: the words between the loop and `step`. Refuses: deciding and doing. Invariant: an event brings
the time and the numbers that it was measured with, so that nobody who decides has to look.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ramos.config import Config
from ramos.daemon.autosave import STILL, Writing
from ramos.daemon.pressure import Memory


class Task(StrEnum):
    """The jobs that need to be told nothing more."""

    SETUP = "setup"
    SWAP_ON = "swap-on"
    SWAP_OFF = "swap-off"
    SEAL = "seal"
    TO_RAM = "to-ram"
    SCRUB = "scrub"
    POWER_OFF = "power-off"
    GROWTH = "growth"
    PUBLISH = "publish"


@dataclass(frozen=True)
class Return:
    """The job of using the stick again, which is at `node` now."""

    node: Path

    def __str__(self) -> str:
        return "return"


@dataclass(frozen=True)
class Save:
    """The job of saving, which nobody asked for but the settings."""

    reason: str

    def __str__(self) -> str:
        return "save"


# What may take long; a child does it.
Job = Task | Return | Save


@dataclass(frozen=True)
class Measured:
    """The clock ticked, or the kernel told of pressure: how things are."""

    now: float
    memory: Memory
    fill_percent: float
    writing: Writing = STILL


@dataclass(frozen=True)
class StickGone:
    """The device of persist was removed; `released`: the boot itself let go of it."""

    released: bool = False


@dataclass(frozen=True)
class StickSeen:
    """A partition appeared that is our stick, or bears its label without being it."""

    node: Path
    same: bool


@dataclass(frozen=True)
class MountsChanged:
    """Something was mounted or unmounted: whether persist is, and from a device that is there."""

    mounted: bool
    there: bool


@dataclass(frozen=True)
class LinksChanged:
    """Something changed in the user's folder on persist, or in the home."""


@dataclass(frozen=True)
class PowerPressed:
    """The power button was pressed."""


@dataclass(frozen=True)
class LidClosed:
    """The lid was closed."""


@dataclass(frozen=True)
class BatteryChanged:
    """How full the battery is by now."""

    percent: int
    discharging: bool


@dataclass(frozen=True)
class Reload:
    """The settings were read again."""

    config: Config


@dataclass(frozen=True)
class JobDone:
    """A job ended: with an empty error when it did what it should."""

    job: Job
    error: str = ""
    text: str = ""


Event = (
    Measured
    | StickGone
    | StickSeen
    | MountsChanged
    | LinksChanged
    | PowerPressed
    | LidClosed
    | BatteryChanged
    | Reload
    | JobDone
)


@dataclass(frozen=True)
class Start:
    """Start a job; its end is an event."""

    job: Job


@dataclass(frozen=True)
class Tell:
    """Everyone at a terminal must know."""

    text: str


@dataclass(frozen=True)
class Log:
    """A line for the log of ramosd alone."""

    text: str


@dataclass(frozen=True)
class Note:
    """A failure for the records."""

    what: str
    error: str


@dataclass(frozen=True)
class MeetStick:
    """The stick is in use again: its loop devices and the owner of the links are found anew, and
    what everybody may know is."""


@dataclass(frozen=True)
class SyncLinks:
    """Bring the links in the home in step."""


@dataclass(frozen=True)
class Leave:
    """Go down without the help of any program: none can be started."""


Action = Start | Tell | Log | Note | MeetStick | SyncLinks | Leave
