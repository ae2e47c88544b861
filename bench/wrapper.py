"""What the apk wrapper adds to the real apk: the same calls with and without it, as a ratio.

Run as `python -m bench.wrapper APK`, as root. Owns: two equal root trees with a repository of
Alpine's size (20,000 packages) and a table of medians. Refuses: the clock on the
wall, which other work on the machine moves; calls with and without the wrapper alternate, and only
the ratio of their processor time counts.
"""

import argparse
import base64
import hashlib
import os
import resource
import stat
import statistics
import subprocess
import tempfile
from pathlib import Path

from ramos.apk import SPECIAL_FILE, render_special
from ramos.formats.apk_pack import sign_member
from ramos.recipe_files import load_recipes
from tests import alpine_mirror
from tests.alpine_mirror import BUSYBOX, Spec

WRAPPER = Path(__file__).resolve().parents[1] / "apk-triggers/alpine/apk"
OTHERS = 20_000
APPLETS = ["sh", "sed", "awk", "grep", "ls", "mkdir", "mv", "stat", "tar", "tr", "zcat"]
SPECS = [
    Spec("busybox", {"bin/busybox": BUSYBOX, **{f"bin/{name}": "busybox" for name in APPLETS}}),
    Spec("htop", {"usr/bin/htop": bytes(200_000)}, depends=["so:library"]),
    Spec("library", {"usr/lib/library.so": bytes(100_000)}, provides=["so:library=1"]),
]
# What is measured, and what makes it possible again.
CALLS = {
    "apk info": (["info"], []),
    "apk info -e busybox": (["info", "-e", "busybox"], []),
    "apk search htop": (["search", "htop"], []),
    "apk add htop": (["add", "htop"], ["del", "htop"]),
    "apk del htop": (["del", "htop"], ["add", "htop"]),
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
    for folder in ("etc/apk/keys", "sbin", "usr/local/sbin", "dev"):
        (root / folder).mkdir(parents=True)
    mirror.path.rename(root / "mirror")
    for key in mirror.keys.iterdir():
        (root / "etc/apk/keys" / key.name).write_bytes(key.read_bytes())
    (root / "etc/apk/repositories").write_text("/mirror/v3.23/main\n")
    for source, place in ((apk, "sbin/apk"), (WRAPPER, "usr/local/sbin/apk")):
        (root / place).write_bytes(source.read_bytes())
        (root / place).chmod(0o755)
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / SPECIAL_FILE).write_text(render_special(load_recipes(home / "none").usable))
    call(root, "/sbin/apk", ["--arch", alpine_mirror.ARCH, "--initdb", "add", "busybox"])
    return root


def call(root: Path, program: str, words: list[str]) -> float:
    """Run it in the root tree; the seconds of processor time that it took, with its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = ["/usr/sbin/chroot", str(root), program, *words]
    done = subprocess.run(argv, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{program} {words}: {done.stdout!r} {done.stderr!r}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(root: Path, runs: int) -> None:
    """Alternate, and print a table."""
    print("| call | bare, CPU ms | wrapped, CPU ms | ratio |\n|---|---|---|---|")
    for name, (words, undo) in CALLS.items():
        if name == "apk del htop":
            call(root, "/sbin/apk", ["add", "htop"])
        seconds: dict[str, list[float]] = {"/sbin/apk": [], "/usr/local/sbin/apk": []}
        for _ in range(runs):
            for program, found in seconds.items():
                found.append(call(root, program, words))
                if undo:
                    call(root, "/sbin/apk", undo)
        bare, wrapped = (1000 * statistics.median(found) for found in seconds.values())
        print(f"| `{name}` | {bare:.1f} | {wrapped:.1f} | {wrapped / bare:.2f} |", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("apk", type=Path, help="a static apk")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        measure(make_root(options.apk, Path(home)), options.runs)


if __name__ == "__main__":
    main()
