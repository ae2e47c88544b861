"""A real Alpine: the donor's (tests/labs/donor.py), or the one that RAMOS_ALPINE_ROOT names, a
minirootfs (.tar.gz).

Its packages go to the tests' mirror as they are: files, owners, modes, links, scripts and triggers,
by its own database; only the signature is another one. Its BusyBox and its apk also run on this
machine, by its own musl loader. It is unpacked once below .cache.
"""

import functools
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import filelock

from tests.labs import donor, onefile
from tests.labs.alpine_mirror import Content, Spec
from tests.labs.wheels import CACHE

TARBALL = os.environ.get("RAMOS_ALPINE_ROOT", "")
TOOLS = [Path(word) for word in os.environ.get("RAMOS_APK", "").split(":") if word]
DATABASES = ("lib/apk/db", "usr/lib/apk/db")
# Each apk that a test runs with; None is the one of the root, which is here when a test needs it.
EACH_TOOL: list[Path | None] = [*TOOLS] or [None]
LOADER = "lib/ld-musl-x86_64.so.1"
# What a record of the database becomes in a package.
FIELDS = {"r": "replaces", "q": "replaces_priority", "i": "install_if"}
# NAME-VERSION.IDENTITY.SCRIPT: apk 2 writes the identity in base64, apk 3 in hexadecimal digits.
SCRIPT_NAME = re.compile(r"(?P<name>.+)-[^-]+-r\d+\.(?:Q1|X1)[^.]+\.(?P<script>[a-z-]+)")
# Files that no record of a minirootfs names: Alpine has them in alpine-base.
RELEASE_FILES = ("etc/alpine-release", "etc/os-release", "etc/issue")


@functools.cache
def provide_root() -> Path:
    """The unpacked root."""
    if not TARBALL:
        return donor.provide_root()
    source = Path(TARBALL)
    info = source.stat()
    root = CACHE / "alpine-root" / f"{info.st_size}-{info.st_mtime_ns}"
    root.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root.with_suffix(".lock")):
        if not root.exists():
            part = root.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            subprocess.run(["tar", "-xpzf", source, "-C", part], check=True)
            part.rename(root)
    return root


def name_root() -> str:
    """Which Alpine the tests have."""
    return TARBALL or f"{donor.WHEEL.name} {donor.WHEEL.version}"


def name_tools() -> str:
    """Which apk the tests have."""
    return " and ".join(map(str, TOOLS)) or f"the one of {name_root()}"


def plan_program(path: str) -> list[str]:
    """How a program of the root is called on this machine."""
    root = provide_root()
    libraries = f"{root}/lib:{root}/usr/lib"
    return [str(root / LOADER), "--library-path", libraries, str(root / path)]


def write_program(path: str, output: Path, *words: str) -> Path:
    """A script that calls a program of the root."""
    call = " ".join([*plan_program(path), *words])
    output.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
    output.chmod(0o755)
    return output


def provide_apk() -> Path:
    """The real apk as one static file: the first that RAMOS_APK names, or the root's."""
    return TOOLS[0] if TOOLS else onefile.provide_onefile(provide_root(), "sbin/apk")


def provide_shell() -> Path:
    """Its BusyBox as a shell on this machine, with every applet before this machine's programs."""
    root = provide_root()
    folder = root.with_name(f"{root.name}.applets")
    with filelock.FileLock(root.with_name(f"{root.name}.applets.lock")):
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            for name in list_applets():
                write_program("bin/busybox", part / name, name)
            write_program("bin/busybox", part / "busybox")
            call = " ".join([*plan_program("bin/busybox"), "sh"])
            (part / "shell").write_text(f'#!/bin/sh\nPATH={folder}:$PATH exec {call} "$@"\n')
            (part / "shell").chmod(0o755)
            part.rename(folder)
    return folder / "shell"


def list_applets() -> list[str]:
    """What its BusyBox can do."""
    argv = [*plan_program("bin/busybox"), "--list"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def find_database(root: Path) -> Path:
    """apk's; a root whose folders are merged under /usr has it there."""
    return next(root / name for name in DATABASES if (root / name / "installed").exists())


def list_specs(home: Path, root: Path) -> Iterator[Spec]:
    """The packages of a root, each with a tree of its own below `home`."""
    scripts = read_scripts(root)
    triggers = read_triggers(root)
    text = (find_database(root) / "installed").read_text()
    for record in text.strip("\n").split("\n\n"):
        lines = [line.partition(":")[::2] for line in record.split("\n")]
        one = dict(reversed(lines))
        tree = home / one["P"]
        copy_files(root, tree, lines)
        yield Spec(
            one["P"],
            depends=one.get("D", "").split(),
            provides=one.get("p", "").split(),
            priority=int(one.get("k", "0")),
            scripts=scripts.get(one["P"], {}),
            triggers=triggers.get(one["C"], ""),
            version=one["V"],
            arch=one["A"],
            tree=tree,
            more={name: one[letter] for letter, name in FIELDS.items() if letter in one},
        )


def find_release_files() -> Mapping[str, Content]:
    """What a stick knows itself by, where no package has it."""
    root = provide_root()
    named = {name for name, _ in donor.list_files(find_database(root))}
    return {name: root / name for name in RELEASE_FILES if name not in named}


def copy_files(root: Path, tree: Path, lines: list[tuple[str, str]]) -> None:
    """What a record names, with the owners and modes that it says."""
    folder = target = tree
    for letter, value in lines:
        if letter == "F":
            folder = target = tree / value
            folder.mkdir(exist_ok=True, parents=True)
            set_owner(folder, "0:0:755")
        # A minirootfs has nothing in /dev.
        elif letter == "R" and os.path.lexists(root / folder.relative_to(tree) / value):
            target = folder / value
            shutil.copy2(root / target.relative_to(tree), target, follow_symlinks=False)
            set_owner(target, "0:0:644")
        elif letter in ("M", "a"):
            set_owner(target, value)


def set_owner(path: Path, value: str) -> None:
    """UID:GID:MODE."""
    uid, gid, mode = value.split(":")[:3]
    if os.geteuid() == 0:
        os.chown(path, int(uid), int(gid), follow_symlinks=False)
    if not path.is_symlink():
        path.chmod(int(mode, 8))


def read_scripts(root: Path) -> dict[str, dict[str, str]]:
    """The scripts of each package; apk 3 packs them."""
    found: dict[str, dict[str, str]] = {}
    path = next(find_database(root).glob("scripts.tar*"))
    with tarfile.open(path) as tar:
        for member in tar:
            match = SCRIPT_NAME.fullmatch(member.name)
            content = tar.extractfile(member)
            assert match, member.name
            assert content
            found.setdefault(match["name"], {})[match["script"]] = content.read().decode()
    return found


def read_triggers(root: Path) -> dict[str, str]:
    """The globs of each trigger, by identity."""
    lines = (find_database(root) / "triggers").read_text().splitlines()
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}
