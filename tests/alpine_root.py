"""A real Alpine, where one lies on this machine: RAMOS_ALPINE_ROOT names a minirootfs (.tar.gz).

Its packages go to the tests' mirror as they are: files, owners, modes, links, scripts and triggers,
by its own database; only the signature is another one. Its BusyBox and its apk also run on this
machine, by its own musl loader. It is unpacked once below .cache.
"""

import functools
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import filelock

from tests.alpine_mirror import REAL_TOOLS, TOOLS, Content, Spec

TARBALL = os.environ.get("RAMOS_ALPINE_ROOT", "")
CACHE = Path(__file__).resolve().parents[1] / ".cache" / "alpine-root"
DATABASE = "lib/apk/db"
LOADER = "lib/ld-musl-x86_64.so.1"
# What a record of the database becomes in a package.
FIELDS = {"r": "replaces", "q": "replaces_priority", "i": "install_if"}
# Files that no record names: Alpine has them in alpine-base.
RELEASE_FILES = ("etc/alpine-release", "etc/os-release", "etc/issue")


@functools.cache
def provide_root() -> Path:
    """The unpacked root."""
    source = Path(TARBALL)
    info = source.stat()
    root = CACHE / f"{info.st_size}-{info.st_mtime_ns}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(CACHE / "lock"):
        if not root.exists():
            part = root.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            subprocess.run(["tar", "-xpzf", source, "-C", part], check=True)
            part.rename(root)
    return root


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


def provide_apk(folder: Path) -> Path:
    """What the image builder calls as its static apk."""
    if not TARBALL or REAL_TOOLS:
        return TOOLS[0]
    return write_program("sbin/apk", folder / "apk.static")


def provide_shell() -> Path:
    """Its BusyBox as a shell on this machine, with every applet before this machine's programs."""
    folder = provide_root().with_suffix(".applets")
    with filelock.FileLock(CACHE / "lock"):
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            listing = subprocess.run(
                [*plan_program("bin/busybox"), "--list"], capture_output=True, text=True, check=True
            )
            for name in listing.stdout.split():
                write_program("bin/busybox", part / name, name)
            write_program("bin/busybox", part / "busybox")
            call = " ".join([*plan_program("bin/busybox"), "sh"])
            (part / "shell").write_text(f'#!/bin/sh\nPATH={folder}:$PATH exec {call} "$@"\n')
            (part / "shell").chmod(0o755)
            part.rename(folder)
    return folder / "shell"


def list_specs(home: Path) -> Iterator[Spec]:
    """The packages of the root, each with a tree of its own below `home`."""
    root = provide_root()
    scripts = read_scripts(root)
    triggers = read_triggers(root)
    text = (root / DATABASE / "installed").read_text()
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
            tree=tree,
            more={name: one[letter] for letter, name in FIELDS.items() if letter in one},
        )


def find_release_files() -> dict[str, Content]:
    """What a stick knows itself by."""
    return {name: provide_root() / name for name in RELEASE_FILES}


def copy_files(root: Path, tree: Path, lines: list[tuple[str, str]]) -> None:
    """What a record names, with owners and modes."""
    names: list[str] = []
    folder = ""
    for letter, value in lines:
        if letter == "F":
            folder = value
            names += [folder] if folder else []
        elif letter == "R":
            names.append(f"{folder}/{value}".lstrip("/"))
    tree.mkdir(parents=True)
    subprocess.run(
        ["tar", "-cf", "-", "--no-recursion", "-C", root, "--null", "-T", "-"],
        # A minirootfs has nothing in /dev.
        input="\0".join(name for name in names if os.path.lexists(root / name)).encode(),
        stdout=(tree.parent / "files.tar").open("wb"),
        check=True,
    )
    subprocess.run(["tar", "-xpf", tree.parent / "files.tar", "-C", tree], check=True)
    (tree.parent / "files.tar").unlink()


def read_scripts(root: Path) -> dict[str, dict[str, str]]:
    """The scripts of each package, as NAME-VERSION.IDENTITY.SCRIPT in a tar."""
    found: dict[str, dict[str, str]] = {}
    with tarfile.open(root / DATABASE / "scripts.tar") as tar:
        for member in tar:
            label, _, rest = member.name.partition(".Q1")
            content = tar.extractfile(member)
            assert content
            name = label.rsplit("-", 2)[0]
            found.setdefault(name, {})[rest.rpartition(".")[2]] = content.read().decode()
    return found


def read_triggers(root: Path) -> dict[str, str]:
    """The globs of each trigger, by identity."""
    lines = (root / DATABASE / "triggers").read_text().splitlines()
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}
