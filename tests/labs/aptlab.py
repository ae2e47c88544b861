"""Debian systems to chroot into: the real apt and dpkg, the wrapper, and the engine behind it.

Each is an overlay over this machine's tree with an empty package database, a stick of directories
and a network of its own, in which there is a default route or none. What stands in for something
else is the ESP: this kernel need not have FAT.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ramos.packages.debian_settings import render_settings
from ramos.packages.recipes import load_recipes
from tests.labs.debmirror import Mirror
from tests.labs.packagelab import make_root, make_stick

REPOSITORY = Path(__file__).resolve().parents[2]
TRIGGERS = REPOSITORY / "apk-triggers"
RUNNING = os.uname().release
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENGINE = f"""#!{sys.executable}
import contextlib
import sys
from pathlib import Path

sys.path.insert(0, {str(REPOSITORY)!r})
from ramos import cli
from ramos.boot import esp

@contextlib.contextmanager
def open_directory(boot, *, writable):
    yield Path("/esp")

esp.mount_esp = open_directory
cli.main()
"""
# Whose the links in / are: dpkg removes them with the last package that knows them.
BASE = """Package: base
Status: install ok installed
Maintainer: Test <test@localhost>
Architecture: all
Version: 1
Description: a test
"""
# What depends on the clock.
FETCHED = re.compile(r"in \d+m?s \(.*\)|(?<=Fetched ).*")


@dataclass(frozen=True)
class System:
    """A root tree with its stick and its network."""

    root: Path
    home: Path

    def call(self, line: str, answers: str = "", **env: str) -> tuple[int, str, str]:
        """What a shell of root would run; its exit status, and what it printed where."""
        done = subprocess.run(
            ["nsenter", f"--net={self.home / 'net'}", "/usr/sbin/chroot", self.root, *line.split()],
            env={"PATH": PATH, "LC_ALL": "C.UTF-8", **env},
            cwd="/",
            input=answers,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, FETCHED.sub("", done.stdout), FETCHED.sub("", done.stderr)

    def check(self, line: str) -> str:
        """Run what has to end well; what it printed."""
        code, out, err = self.call(line)
        assert code == 0, f"{line}: {code}\n{out}\n{err}"
        return out + err

    def status(self, name: str) -> str:
        """The state and the version of a package, as dpkg has them."""
        argv = ["dpkg-query", f"--admindir={self.root}/var/lib/dpkg", "-W"]
        argv += ["-f", "${db:Status-Abbrev}${Version}", name]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

    def databases(self) -> dict[str, bytes]:
        """What dpkg and apt remember."""
        found = {}
        for name in ("var/lib/dpkg/status", "var/lib/apt/extended_states"):
            path = self.root / name
            found[name] = path.read_bytes() if path.exists() else b""
        for name in ("var/lib/dpkg/info", "etc/plain", "usr/share/plain"):
            for path in sorted((self.root / name).rglob("*")):
                if path.is_file():
                    found[str(path.relative_to(self.root))] = path.read_bytes()
        return found

    def cut_network(self) -> None:
        """Take the default route away."""
        subprocess.run(["nsenter", f"--net={self.home / 'net'}", "ip", "route", "flush", "default"])


def make_system(home: Path, mirror: Mirror) -> System:
    """A system as the image builder sets it up, that knows one mirror."""
    home.mkdir()
    root = make_root(home)
    make_stick(home / "persist", home / "esp", home, RUNNING)
    stick = {"persist": home / "persist", "esp": home / "esp"}
    shared = {str(path).lstrip("/"): path for path in _list_shared(mirror)}
    for name, source in {**stick, **shared, **{n: Path("/", n) for n in ("proc", "sys")}}.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--rbind", source, root / name], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "run", root / "run"], check=True)
    (root / "run/ramos").mkdir()
    (root / "run/ramos/boot").write_text("mode=default\ngeneration=1\n")
    for name, text in render_settings(load_recipes(home / "none").usable).items():
        (root / name).write_text(text)
    for name in ("apt", "apt-get"):
        (root / "usr/local/sbin" / name).symlink_to(TRIGGERS / "debian/apt")
    (root / "usr/share/ramos").mkdir(parents=True)
    (root / "usr/share/ramos/apk-triggers").symlink_to(TRIGGERS)
    set_engine(root, ENGINE)
    (root / "etc/apt/sources.list.d/test.sources").write_text(mirror.source)
    (root / "etc/apt/apt.conf.d/99test").write_text('APT::Sandbox::User "root";\n')
    (root / "var/lib/dpkg/status").write_text(BASE)
    folders = ("/.", "/bin", "/etc", "/lib", "/lib64", "/sbin", "/usr", "/usr/lib", "/usr/share")
    (root / "var/lib/dpkg/info/base.list").write_text("".join(f"{name}\n" for name in folders))
    (home / "net").touch()
    net = "ip link set lo up && ip route add default dev lo"
    subprocess.run(["unshare", f"--net={home / 'net'}", "sh", "-c", net], check=True)
    return System(root, home)


def _list_shared(mirror: Mirror) -> set[Path]:
    return {REPOSITORY, Path(sys.prefix).resolve(), mirror.folder.parent}


def set_engine(root: Path, text: str) -> None:
    """What `ramos` is."""
    path = root / "usr/local/bin/ramos"
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)
