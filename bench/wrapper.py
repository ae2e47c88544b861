"""What the apk and apt wrappers add to the real programs: the same calls with and without them.

Run as `python -m bench.wrapper APK`, or with the word `apt` in place of APK, as root. Owns: a root
tree with a repository of 20,000 packages and more, and a table of medians. Refuses: the clock
on the wall, which other work on the machine moves; calls with and without the wrapper alternate,
and only the ratio of their processor time counts.
"""

import argparse
import base64
import hashlib
import os
import resource
import shutil
import stat
import statistics
import subprocess
import tempfile
from pathlib import Path

from ramos.formats.apk_pack import sign_member
from ramos.packages.alpine import SPECIAL_FILE
from ramos.packages.recipe import render_special
from ramos.packages.recipes import load_recipes
from tests.labs import alpine_mirror
from tests.labs.alpine_mirror import BUSYBOX, Spec
from tests.labs.aptlab import make_system
from tests.labs.debmirror import Mirror
from tests.root.conftest import enter_mount_namespace

WRAPPER = Path(__file__).resolve().parents[1] / "apk-triggers/alpine/apk"
OTHERS = 20_000
APPLETS = ["sh", "sed", "awk", "grep", "ls", "mkdir", "mv", "stat", "tar", "tr", "zcat"]
SPECS = [
    Spec("busybox", {"bin/busybox": BUSYBOX, **{f"bin/{name}": "busybox" for name in APPLETS}}),
    Spec("htop", {"usr/bin/htop": bytes(200_000)}, depends=["so:library"]),
    Spec("library", {"usr/lib/library.so": bytes(100_000)}, provides=["so:library=1"]),
]
# What is measured, and what makes it possible again.
Calls = dict[str, tuple[list[str], list[str]]]
APK_CALLS: Calls = {
    "apk info": (["info"], []),
    "apk info -e busybox": (["info", "-e", "busybox"], []),
    "apk search htop": (["search", "htop"], []),
    "apk add htop": (["add", "htop"], ["del", "htop"]),
    "apk del htop": (["del", "htop"], ["add", "htop"]),
}
APT_CALLS: Calls = {
    "apt list htop": (["list", "htop"], []),
    "apt-get -s install htop": (["-s", "install", "htop"], []),
    "apt-get -y install htop": (["-y", "install", "htop"], ["-y", "remove", "htop"]),
    "apt-get -y remove htop": (["-y", "remove", "htop"], ["-y", "install", "htop"]),
}


def make_record(number: int) -> str:
    """A package of the index that nobody asks for."""
    name = f"package-{number}"
    identity = base64.b64encode(hashlib.sha1(name.encode()).digest()).decode()
    depends = " ".join(f"so:lib{(number * 7 + n) % OTHERS}.so.1" for n in range(4))
    return (
        f"C:Q1{identity}\nP:{name}\nV:1.{number}-r0\nA:x86_64\nS:12345\nI:54321\nT:One of many\n"
        f"U:none\nL:MIT\no:{name}\nt:1700000000\nD:{depends}\n"
        f"p:so:lib{number}.so.1=1 cmd:{name}=1\n\n"
    )


def make_root(apk: Path, home: Path) -> Path:
    """A root tree with both programs, and a mirror in it."""
    mirror = alpine_mirror.make_mirror(home / "upstream", SPECS)
    index = mirror.folder() / "APKINDEX.tar.gz"
    known = subprocess.run(["tar", "-xzOf", index, "APKINDEX"], capture_output=True, check=True)
    text = known.stdout + "".join(make_record(n) for n in range(OTHERS)).encode()
    index.write_bytes(sign_member({"DESCRIPTION": b"v3.23.0 [main]", "APKINDEX": text}, mirror.key))
    root = home / "root"
    for folder in ("etc/apk/keys", "sbin", "usr/local/sbin", "dev", "usr/share/ramos/apk-triggers"):
        (root / folder).mkdir(parents=True)
    shutil.copy(WRAPPER.parents[1] / "special.sh", root / "usr/share/ramos/apk-triggers")
    mirror.path.rename(root / "mirror")
    for key in mirror.keys.iterdir():
        (root / "etc/apk/keys" / key.name).write_bytes(key.read_bytes())
    (root / "etc/apk/repositories").write_text("/mirror/v3.23/main\n")
    for source, place in ((apk, "sbin/apk"), (WRAPPER, "usr/local/sbin/apk")):
        (root / place).write_bytes(source.read_bytes())
        (root / place).chmod(0o755)
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / SPECIAL_FILE).write_text(render_special(load_recipes(home / "none").usable, "alpine"))
    call(root, "/sbin/apk", ["--arch", alpine_mirror.ARCH, "--initdb", "add", "busybox"])
    return root


def make_apt_root(home: Path) -> Path:
    """A system with the real apt, the wrapper and many packages."""
    (home / "upstream").mkdir()
    mirror = Mirror(home / "upstream/mirror")
    fields = {"Package": "htop", "Version": "1", "Architecture": "all", "Depends": "library"}
    mirror.add(fields, {"usr/bin/htop-of-test": bytes(200_000)})
    mirror.add({**fields, "Package": "library", "Depends": "base"}, {"usr/share/x": bytes(100_000)})
    mirror.publish()
    index = mirror.folder / "Packages"
    records = (
        f"Package: package-{n}\nVersion: 1.{n}\nArchitecture: amd64\nMaintainer: x\n"
        f"Depends: package-{n * 7 % OTHERS}, package-{n * 11 % OTHERS}\nDescription: one of many\n"
        f"Filename: ./{n}.deb\nSize: 1\nSHA256: {n:064x}\n\n"
        for n in range(OTHERS)
    )
    index.write_bytes(index.read_bytes().rstrip(b"\n") + b"\n\n" + "".join(records).encode())
    mirror.sign(index.read_bytes())
    system = make_system(home / "system", mirror)
    system.check("/usr/bin/apt-get update")
    system.check("/usr/bin/apt-get -y install library")
    return system.root


def call(root: Path, program: str, words: list[str]) -> float:
    """Run it in the root tree; the seconds of processor time that it took, with its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = ["/usr/sbin/chroot", str(root), program, *words]
    done = subprocess.run(argv, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{program} {words}: {done.stdout!r} {done.stderr!r}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(root: Path, folder: str, calls: Calls, runs: int) -> None:
    """Alternate, and print a table; the real program is in FOLDER."""
    print("| call | bare, CPU ms | wrapped, CPU ms | ratio |\n|---|---|---|---|")
    for name, (words, undo) in calls.items():
        program = name.split()[0]
        real = f"{folder}/{program}"
        if words[-2:] in (["del", "htop"], ["remove", "htop"]):
            call(root, real, undo)
        seconds: dict[str, list[float]] = {real: [], f"/usr/local/sbin/{program}": []}
        for _ in range(runs):
            for chosen, found in seconds.items():
                found.append(call(root, chosen, words))
                if undo:
                    call(root, real, undo)
        bare, wrapped = (1000 * statistics.median(found) for found in seconds.values())
        print(f"| `{name}` | {bare:.1f} | {wrapped:.1f} | {wrapped / bare:.2f} |", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="a static apk, or the word apt")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        if options.program == "apt":
            with enter_mount_namespace():
                measure(make_apt_root(Path(home)), "/usr/bin", APT_CALLS, options.runs)
        else:
            root = make_root(Path(options.program), Path(home))
            measure(root, "/sbin", APK_CALLS, options.runs)


if __name__ == "__main__":
    main()
