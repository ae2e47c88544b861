"""The one error type that users see.

Owns: the shape of every message (*what failed: object: reason. State.* plus a hint) and the exit
codes. Refuses: printing; only the command line prints. Invariant: an error names the object it is
about and the state things are in now.
"""

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_DAMAGED = 3
EXIT_LOCKED = 4


class RamosError(Exception):
    """Something failed in a way the user can understand and act on."""

    exit_code = EXIT_ERROR

    def __init__(
        self, what: str, obj: object, reason: object, state: str = "", hint: str = ""
    ) -> None:
        super().__init__(what, obj, reason, state, hint)
        self.what = what
        self.obj = str(obj)
        self.reason = str(reason).rstrip(".")
        self.state = state
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.what}: {self.obj}: {self.reason}."
        return f"{text} {self.state.rstrip('.')}." if self.state else text


class UsageError(RamosError):
    """What was asked for makes no sense as asked."""

    exit_code = EXIT_USAGE


class DamagedError(RamosError):
    """Bytes on the stick are not the bytes that were saved."""

    exit_code = EXIT_DAMAGED


class LockedError(RamosError):
    """Somebody else is at work on the same thing."""

    exit_code = EXIT_LOCKED
