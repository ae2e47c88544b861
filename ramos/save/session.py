"""What was saved earlier in this boot: one file in /run/ramos.

Owns: that file: a header (which boot, which generation came of it), then the index of the upper as
it was saved. Refuses: guessing. Invariant: the index and the generation it belongs to change
together, by one rename; a header that cannot be read counts as `nothing saved yet`, which costs
bytes but never changes. The index has the names of all files, so the file is root's alone; the
header is published.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from ramos.config import SaveConfig
from ramos.layers.index import Saved, read_index
from ramos.layout import Places
from ramos.store import public

HEADER_BYTES = 256
PUBLISHED = "saved"
COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Session:
    """Which generation holds the upper as it was saved last, on which one, and how that went."""

    booted: int
    tip: int
    bytes_per_second: int = 0
    ratio_percent: int = 0
    birth: int = 0
    excludes: str = ""
    # By the clock that ctimes are made with: what is older is saved.
    moment_ns: int = 0


def name_excludes(config: SaveConfig) -> str:
    """A short name for what is excluded: an index knows nothing of what was excluded then."""
    return hashlib.blake2b("\n".join(config.exclude).encode(), digest_size=8).hexdigest()


class Recorder:
    """A new session file in the making; the index goes right behind the header's room."""

    def __init__(self, path: Path) -> None:
        self._final = path
        self.temporary = path.with_name(f"{path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self.index = os.fdopen(os.open(self.temporary, flags, 0o600), "wb")
        self.index.write(bytes(HEADER_BYTES))

    def keep(self, session: Session) -> None:
        """Put the new session in place of the old one."""
        self.index.seek(0)
        self.index.write(json.dumps(asdict(session)).encode("ascii").ljust(HEADER_BYTES))
        self.index.flush()
        self.temporary.rename(self._final)
        public.publish(self._final.parent, PUBLISHED, **asdict(session))


@contextlib.contextmanager
def record_session(places: Places) -> Iterator[Recorder]:
    """Collect the index of a scan; it only counts once it is kept."""
    places.run.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(places.saved_file)
    try:
        yield recorder
    finally:
        recorder.index.close()
        with contextlib.suppress(OSError):  # the next one overwrites it
            recorder.temporary.unlink(missing_ok=True)


def read_session(places: Places) -> Session | None:
    """What was saved in this boot; None if nothing was, or nobody can tell."""
    try:
        with places.saved_file.open("rb") as file:
            return Session(**json.loads(file.read(HEADER_BYTES)))
    except PermissionError:
        return _read_published(places)
    except (OSError, ValueError, TypeError):
        return None


def _read_published(places: Places) -> Session | None:
    values, names = public.read(places.run, PUBLISHED), [field.name for field in fields(Session)]
    known = {name: values[name] for name in names if name in values}
    return Session(**known) if known else None


@contextlib.contextmanager
def open_index(places: Places) -> Iterator[Iterator[Saved]]:
    """The index of what was saved, entry by entry."""
    with places.saved_file.open("rb") as file:
        file.seek(HEADER_BYTES)
        yield read_index(file)


def replace_tip(places: Places, tip: int) -> None:
    """The saved state is in another generation now (compaction); the index stays right."""
    session = read_session(places)
    if session is None:
        return
    with places.saved_file.open("rb") as old, record_session(places) as recorder:
        old.seek(HEADER_BYTES)
        while data := old.read(COPY_BYTES):
            recorder.index.write(data)
        recorder.keep(replace(session, tip=tip))
