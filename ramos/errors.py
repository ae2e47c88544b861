"""The one error type that users see, and how a name that anybody chose is made harmless.

Owns: the shape of every message (*what failed: object: reason. State.* plus a hint), the exit
codes, and the escaping of what is shown. Refuses: printing; only the command line prints.
Invariants: an error names the object it is about and the state things are in now; it is one line,
and nothing in it is a command to a terminal. What was refused before it began changed nothing, and
says so by itself.
"""

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_DAMAGED = 3
EXIT_LOCKED = 4
EXIT_INTERRUPTED = 130


def escape(text: object) -> str:
    """One line that cannot upset a terminal or a log, whatever names are in it.

    Control characters, line ends, what turns the direction of writing, and bytes that are no text
    become backslash sequences. Text that was escaped before stays as it is.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def find_reason(error: object) -> str:
    """What went wrong: of an error of ours or of the system's the reason alone, not the place."""
    if isinstance(error, RamosError):
        return error.reason
    return str(getattr(error, "strerror", None) or error)


class RamosError(Exception):
    """Something failed in a way the user can understand and act on."""

    exit_code = EXIT_ERROR
    # What is said of the state where whoever raises it says nothing.
    usual_state = ""

    def __init__(
        self, what: str, obj: object, reason: object, state: str = "", hint: str = ""
    ) -> None:
        super().__init__(what, obj, reason, state, hint)
        self.what = escape(what)
        self.obj = escape(obj)
        self.reason = escape(find_reason(reason)).rstrip(".")
        self.state = escape(state or self.usual_state)
        self.hint = escape(hint)

    def __str__(self) -> str:
        text = f"{self.what}: {self.obj}: {self.reason}."
        return f"{text} {self.state.rstrip('.')}." if self.state else text


class RefusedError(RamosError):
    """Something that was asked for was not begun."""

    usual_state = "Nothing was changed"


class UsageError(RefusedError):
    """What was asked for makes no sense as asked."""

    exit_code = EXIT_USAGE


class DamagedError(RamosError):
    """Bytes on the stick are not the bytes that were saved."""

    exit_code = EXIT_DAMAGED


class LockedError(RefusedError):
    """Somebody else is at work on the same thing."""

    exit_code = EXIT_LOCKED
