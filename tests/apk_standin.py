#!/usr/bin/env python3
"""A stand-in for Alpine's apk.static, for tests on machines where no real one can be had.

It is NOT apk. It knows `--root R --initdb add [--simulate] NAME...` and does what apk does then:
chooses packages from the indexes, unpacks them, runs their scripts and triggers in a chroot, and
writes the database and world. It checks the form of packages where apk would stop (directories
before files, checksums), and verifies NO signature and NO identity: that is RAMOS's task before it
runs, and what the tests are about. It runs by itself, with nothing but Python's own library.
"""

import argparse
import fnmatch
import hashlib
import io
import os
import re
import sys
import tarfile
from pathlib import Path
from typing import NoReturn

SAY = "STAND-IN for apk: signatures are not checked here"
Record = dict[str, str]
# (package, script, globs) of every trigger, and every directory that was made or changed.
TRIGGERS: list[tuple[Record, bytes, list[str]]] = []
DIRECTORIES: set[str] = set()


def fail(text: str) -> NoReturn:
    print(f"ERROR: {text}", file=sys.stderr)
    sys.exit(1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("root", "arch", "repositories-file"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("initdb", "no-network", "no-progress", "simulate"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("applet", choices=["add"])
    parser.add_argument("names", nargs="*")
    return parser.parse_intermixed_args()


def read_indexes(arguments: argparse.Namespace) -> list[Record]:
    """All records, each with the file that it names under `file`."""
    records = []
    for line in Path(arguments.repositories_file).read_text().splitlines():
        folder = Path(line) / arguments.arch
        with tarfile.open(folder / "APKINDEX.tar.gz") as tar:
            text = tar.extractfile("APKINDEX").read().decode()  # type: ignore[union-attr]
        for block in filter(str.strip, text.split("\n\n")):
            record = dict(line.split(":", 1) for line in block.strip().split("\n"))
            record["file"] = str(folder / f"{record['P']}-{record['V']}.apk")
            records.append(record)
    return records


def bare(word: str) -> str:
    return re.split("[=<>~]", word)[0]


def find_providers(records: list[Record], word: str) -> list[Record]:
    named = [record for record in records if record["P"] == bare(word)]
    provided = [r for r in records if bare(word) in map(bare, r.get("p", "").split())]
    return named or sorted(provided, key=lambda r: -int(r.get("k", "0")))


def choose(records: list[Record], names: list[str]) -> list[Record]:
    """Every package that is needed, dependencies first."""
    chosen: dict[str, Record] = {}

    def visit(word: str, needed_by: str) -> None:
        providers = find_providers(records, word)
        if not providers:
            fail(f"unable to select packages: {word} (no such package): required by: {needed_by}")
        record = next((r for r in providers if r["P"] in chosen), providers[0])
        if record["P"] in chosen:
            return
        chosen[record["P"]] = record
        for need in record.get("D", "").split():
            if not need.startswith("!"):
                visit(need, record["P"])
        ordered.append(record)

    ordered: list[Record] = []
    for name in names:
        visit(name, f"world[{name}]")
    return ordered


def install(root: Path, record: Record) -> list[str]:
    """Unpack one package; returns its lines for the database."""
    lines = [f"{letter}:{record[letter]}" for letter in "CPVA"]
    scripts: dict[str, bytes] = {}
    directories = {""}
    with tarfile.open(record["file"], errors="surrogateescape") as tar:
        for member in tar:
            if member.name.startswith("."):
                content = tar.extractfile(member)
                scripts[member.name] = content.read() if content else b""
                continue
            run_script(root, record, scripts.pop(".pre-install", b""))
            lines += unpack(root, tar, member, directories)
    for name in (".pre-install", ".post-install"):
        run_script(root, record, scripts.get(name, b""))
    DIRECTORIES.update(f"/{name}" for name in directories)
    if ".trigger" in scripts:
        info = scripts[".PKGINFO"].decode()
        globs = [
            word for word in re.findall(r"^triggers = (.*)$", info, re.M) for word in word.split()
        ]
        TRIGGERS.append((record, scripts[".trigger"], globs))
    return lines


def run_triggers(root: Path) -> None:
    for record, script, globs in TRIGGERS:
        depths = [(glob, glob.count("/")) for glob in globs]
        found = [
            name
            for name in sorted(DIRECTORIES)
            if any(fnmatch.fnmatch(name, g) and name.count("/") == depth for g, depth in depths)
        ]
        if found:
            print(f"Executing {record['P']}-{record['V']}.trigger", flush=True)
            run_script(root, record, script, found)


def run_script(root: Path, record: Record, text: bytes, arguments: list[str] | None = None) -> None:
    if not text:
        return
    script = root / ".apk-script"
    script.write_bytes(text)
    script.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        os.chroot(root)
        os.chdir("/")
        os.execv("/.apk-script", ["/.apk-script", *(arguments or [record["V"]])])
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    script.unlink()
    if status:
        fail(f"{record['P']}-{record['V']}: script exited with error {status}")


def unpack(
    root: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, directories: set[str]
) -> list[str]:
    folder, _, name = member.name.rpartition("/")
    target = root / member.name
    if folder not in directories:
        fail(f"{member.name}: no dirent in archive")
    checksum = member.pax_headers.get("APK-TOOLS.checksum.SHA1")
    if member.isdir():
        directories.add(member.name)
        if not target.is_symlink():
            target.mkdir(exist_ok=True)
            os.chown(target, member.uid, member.gid)
            target.chmod(member.mode)
        return [f"F:{member.name}"]
    if member.issym():
        check(member, os.fsencode(member.linkname), checksum)
        target.unlink(missing_ok=True)
        target.symlink_to(member.linkname)
    elif member.islnk():
        target.unlink(missing_ok=True)
        os.link(root / member.linkname, target)
    else:
        content = tar.extractfile(member).read()  # type: ignore[union-attr]
        check(member, content, checksum)
        if member.name.startswith("etc/") and target.exists() and target.read_bytes() != content:
            target = target.with_name(f"{target.name}.apk-new")
        target.unlink(missing_ok=True)
        target.write_bytes(content)
        os.chown(target, member.uid, member.gid)
        target.chmod(member.mode)
        os.utime(target, (member.mtime, member.mtime))
    return [f"R:{name}"]


def check(member: tarfile.TarInfo, content: bytes, checksum: str | None) -> None:
    if checksum is None:
        fail(f"{member.name}: file format is obsolete (no checksum)")
    if hashlib.sha1(content).hexdigest() != checksum:
        fail(f"{member.name}: checksum mismatch")


def main() -> None:
    arguments = parse_arguments()
    root = Path(arguments.root)
    database = root / "lib/apk/db"
    if arguments.initdb:
        database.mkdir(parents=True, exist_ok=True)
        (root / "etc/apk").mkdir(parents=True, exist_ok=True)
        (root / "etc/apk/arch").write_text(f"{arguments.arch}\n")
        (database / "installed").touch()
    if not (database / "installed").exists():
        fail("Unable to read database state: No such file or directory")
    print(SAY)
    ordered = choose(read_indexes(arguments), arguments.names)
    output = io.StringIO()
    for count, record in enumerate(ordered, 1):
        print(f"({count}/{len(ordered)}) Installing {record['P']} ({record['V']})", flush=True)
        if not arguments.simulate:
            output.write("\n".join(install(root, record)) + "\n\n")
    if not arguments.simulate:
        run_triggers(root)
        with (database / "installed").open("a", errors="surrogateescape") as file:
            file.write(output.getvalue())
        (root / "etc/apk/world").write_text("".join(f"{n}\n" for n in sorted(arguments.names)))
    print(f"OK: {len(ordered)} packages")


main()
