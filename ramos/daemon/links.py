"""The user's own files: each entry of /persist/user appears as a link in the home.

Owns: the links that it made itself, told by where they lead. Refuses: touching a real file, or a
link that leads anywhere else, and following one on the way to a home that its user can change.
Invariants: what is in the way stays and is reported; names are bytes: blanks, newlines, leading
dashes and invalid UTF-8 are names like any other.
"""

import contextlib
import os
import pwd
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.config import LinksConfig
from ramos.errors import find_reason
from ramos.linux import syscalls
from ramos.linux.beneath import name_handle, open_entry, open_folder

PASSWD_LOW, PASSWD_HIGH = 1000, 60000
NOT_LINKED = frozenset((b"lost+found",))


@dataclass(frozen=True)
class Owner:
    """Whose home it is."""

    name: str
    uid: int
    gid: int
    home: Path


@dataclass(frozen=True)
class LinkPlan:
    """What brings the home in step, and what is in the way."""

    make: tuple[bytes, ...]
    remove: tuple[bytes, ...]
    conflicts: tuple[bytes, ...]


@dataclass(frozen=True)
class LinkReport:
    """What was done, and what was not."""

    made: int = 0
    removed: int = 0
    conflicts: tuple[bytes, ...] = ()
    problems: tuple[str, ...] = ()


def plan_links(
    entries: Iterable[bytes], home: Mapping[bytes, bytes | None], directory: bytes
) -> LinkPlan:
    """Compare the entries with the home: the target of each link there, None for anything else."""
    wanted = set(entries) - NOT_LINKED
    make, conflicts = [], []
    for name in sorted(wanted):
        if name not in home:
            make.append(name)
        elif home[name] != b"%s/%s" % (directory, name):
            conflicts.append(name)
    remove = [
        name
        for name, target in sorted(home.items())
        if name not in wanted and target == b"%s/%s" % (directory, name)
    ]
    return LinkPlan(tuple(make), tuple(remove), tuple(conflicts))


def find_owner(config: LinksConfig) -> Owner | None:
    """The user that is set, or the one with the lowest id from 1000 on."""
    users = [
        user
        for user in pwd.getpwall()
        if (user.pw_name == config.user if config.user else _is_person(user.pw_uid))
    ]
    if not users:
        return None
    user = min(users, key=lambda u: u.pw_uid)
    return Owner(user.pw_name, user.pw_uid, user.pw_gid, Path(user.pw_dir))


def _is_person(uid: int) -> bool:
    return PASSWD_LOW <= uid < PASSWD_HIGH


def read_home(descriptor: int, names: Iterable[bytes]) -> dict[bytes, bytes | None]:
    """What is there under each name: a link's target, None for anything else."""
    found: dict[bytes, bytes | None] = {}
    for name in names:
        try:
            mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
            found[name] = os.readlink(name, dir_fd=descriptor) if stat.S_ISLNK(mode) else None
        except FileNotFoundError:
            continue
    return found


def sync_links(owner: Owner, directory: Path) -> LinkReport:
    """Bring the home in step with the folder on persist."""
    try:
        entries = os.listdir(os.fsencode(directory))
        with open_folder(owner.home) as home:
            names = {*entries, *os.listdir(b"/proc/self/fd/%d" % home)}
            plan = plan_links(entries, read_home(home, names), os.fsencode(directory))
            return _apply(plan, home, owner, os.fsencode(directory))
    except OSError as error:
        return LinkReport(problems=(f"{error.filename or owner.home}: {find_reason(error)}",))


def find_conflicts(owner: Owner, directory: Path) -> tuple[bytes, ...]:
    """The entries that something else in the home is in the way of."""
    with contextlib.suppress(OSError):
        entries = os.listdir(os.fsencode(directory))
        with open_folder(owner.home) as home:
            return plan_links(entries, read_home(home, entries), os.fsencode(directory)).conflicts
    return ()


def _apply(plan: LinkPlan, home: int, owner: Owner, directory: bytes) -> LinkReport:
    made, removed, problems = 0, 0, []
    for name in plan.remove:
        try:
            os.unlink(name, dir_fd=home)
            removed += 1
        except OSError as error:
            problems.append(f"{os.fsdecode(name)!r}: {find_reason(error)}")
    for name in plan.make:
        try:
            target = b"%s/%s" % (directory, name)
            os.symlink(target, name, dir_fd=home)
            give_link(home, name, target, owner)
            made += 1
        except FileExistsError:
            continue  # it appeared meanwhile: the next event looks again
        except OSError as error:
            problems.append(f"{os.fsdecode(name)!r}: {find_reason(error)}")
    return LinkReport(made, removed, plan.conflicts, tuple(problems))


def give_link(home: int, name: bytes, target: bytes, owner: Owner) -> None:
    """The link just made becomes its user's; what he has put in its place meanwhile does not."""
    with open_entry(home, name) as entry:
        is_link = stat.S_ISLNK(os.fstat(entry).st_mode)
        if is_link and os.readlink(b"", dir_fd=entry) == target:
            os.chown(name_handle(entry), owner.uid, owner.gid)


class FolderWatch:
    """inotify on both folders: tells that something changed, not what."""

    def __init__(self) -> None:
        self.descriptor = syscalls.open_inotify()
        self.watches: dict[int, Path] = {}

    def set_folders(self, folders: Iterable[Path]) -> None:
        """Watch these folders, and only these."""
        for number in self.watches:
            with contextlib.suppress(OSError):
                syscalls.unwatch(self.descriptor, number)
        self.watches = {}
        for folder in folders:
            mask = syscalls.IN_NAMES | syscalls.IN_ONLYDIR | syscalls.IN_DONT_FOLLOW
            with contextlib.suppress(OSError):
                self.watches[syscalls.watch(self.descriptor, folder, mask)] = folder

    def drain(self, interesting: Path) -> bool:
        """Whether anything in `interesting`, or under a name that it has, changed."""
        changed = False
        for number, mask, name in syscalls.read_inotify(self.descriptor):
            folder = self.watches.get(number)
            if mask & syscalls.IN_Q_OVERFLOW:
                changed = True
            elif folder is not None and not mask & syscalls.IN_IGNORED:
                place = b"%s/%s" % (os.fsencode(interesting), name)
                changed = changed or folder == interesting or os.path.lexists(place)
        return changed


def user_directory(persist: Path = layout.PERSIST_DIR) -> Path:
    """The folder on persist whose entries are linked."""
    return persist / layout.USER_DIR


def make_user_directory(directory: Path, owner: Owner) -> None:
    """The folder on persist, belonging to its user; touched only where it does not yet."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir()
    with open_folder(directory) as folder:
        if os.fstat(folder).st_uid == 0 != owner.uid:
            os.chown(name_handle(folder), owner.uid, owner.gid)
