"""The apk wrapper beside the real apk: the same words on two equal systems must end alike."""

import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ramos.packages.alpine import SPECIAL_FILE
from ramos.packages.recipe import render_special
from ramos.packages.recipes import load_recipes
from tests.labs import alpine_mirror, alpine_root, apk_tools
from tests.labs.alpine_mirror import Spec
from tests.labs.apklab import each_real_apk, make_root

pytestmark = each_real_apk
REPOSITORY = Path(__file__).resolve().parents[3]
WRAPPER = REPOSITORY / "apk-triggers/alpine/apk"
# Of the root, but the engine's business.
SPECIAL = ("linux-virt", "mkinitfs")
BASE = ("alpine-baselayout", "busybox", "busybox-binsh")
SPECS = [
    Spec("htop", {"usr/bin/htop": b"#!/bin/sh\n", "etc/htoprc": b"a=1\n"}, version="3.0-r0"),
    Spec("tree", {"usr/bin/tree": b"#!/bin/sh\n"}, depends=["htop"]),
    Spec(
        "nano", {"usr/bin/nano": b"#!/bin/sh\n"}, scripts={"post-install": "#!/bin/sh\necho hi\n"}
    ),
    Spec("broken", {"x": b""}, scripts={"post-install": "#!/bin/sh\nexit 3\n"}),
    Spec("linux-firmware-odd", {"lib/firmware/odd": b"odd"}),
]
NEWER = Spec("htop", {"usr/bin/htop": b"#!/bin/sh\n:\n", "etc/htoprc": b"a=2\n"}, version="3.1-r0")
# A line is one call; both systems go through all of them.
CALLS = """
--version
--print-arch
-V

bogus
update
update -q
info
info -e htop
info -L busybox
info -a busybox
list
list -I
search -v htop
policy htop
stats
version
audit
audit --full
add -s htop
add --simulate htop tree
add htop
add htop
add -q tree
add -vv nano
add -qq nano htop
add --virtual .deps tree nano
add -t .more htop
add nosuch
add htop=9
add htop>3.0
add htop<4
add -u htop
add !nano
add --no-such-option htop
add -Z htop
add --
add -- htop
add -l tree
add broken
fix broken
del broken
add --root /nowhere htop
add --root=/nowhere htop
-p /nowhere info
-qp /nowhere add htop
add -X /mirror/v3.23/community tree
add -X/mirror/v3.23/community tree
add --no-scripts nano
info -W /usr/bin/htop
info -r htop
manifest htop
dot htop
fetch -o /var htop
verify /var/htop-3.0-r0.apk
add /var/htop-3.0-r0.apk
fetch -s nosuch
fix
fix htop
fix --xattr htop
del nosuch
del .more
del -r htop
add htop tree nano
NEWER
update
version -l <
upgrade htop -s
upgrade -s htop
upgrade htop
upgrade --ignore htop
upgrade -a
upgrade
upgrade --available --simulate
cache clean
cache download
cache
index /var/htop-3.0-r0.apk -o /run/index.tar.gz
del htop -s
del htop tree
del nano
del -q nano
info
"""


# A virtual package has the time as its version, and an identity made of it.
MOMENT = re.compile(rb"20\d{6}\.\d{6}")
IDENTITY = re.compile(rb"(?m)^C:.*$|(?<=><)Q1.*$")


@dataclass(frozen=True)
class System:
    """A root tree; `program` is what a user's `apk` is there."""

    path: Path
    program: str

    def call(self, words: list[str]) -> tuple[int, bytes, bytes]:
        env = {"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(
            ["/usr/sbin/chroot", self.path, self.program, *words],
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        out, err = (MOMENT.sub(b"now", text) for text in (done.stdout, done.stderr))
        return done.returncode, out, err

    def list_files(self) -> dict[str, object]:
        """All of the tree; of apk's own files what does not depend on the clock."""
        found: dict[str, object] = {**apk_tools.list_tree(self.path)}
        for name in list(found):
            if "var/log" in name or name.startswith(("lib/apk/db/", "run")):
                del found[name]
        for name in ("lib/apk/db/installed", "etc/apk/world"):
            text = (self.path / name).read_bytes()
            found[name] = MOMENT.sub(b"now", IDENTITY.sub(b"", text))
        return found


def make_systems(apk: Path, home: Path) -> tuple[System, System, alpine_mirror.Mirror]:
    """The same system twice, without the wrapper and with it."""
    specs = alpine_root.list_specs(home / "real", alpine_root.provide_root())
    system = [spec for spec in specs if spec.name not in SPECIAL]
    mirror = alpine_mirror.make_mirror(home / "upstream", [*system, *SPECS])
    for name in ("bare", "wrapped"):
        root = make_root(apk, home / name, mirror.keys, str(mirror.folder().parent))
        root.run("add", *BASE)
        (root.path / "etc/apk/repositories").write_text("/mirror/v3.23/main\n")
        for folder in ("sbin", "usr/local/sbin", "nowhere", "mirror", "tmp", "dev", "run"):
            (root.path / folder).mkdir(parents=True, exist_ok=True)
        if not (root.path / "dev/null").exists():
            os.mknod(root.path / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        shutil.copy(apk, root.path / "sbin/apk")
        shutil.copy(WRAPPER, root.path / "usr/local/sbin/apk")
        (root.path / "usr/share/ramos/apk-triggers").mkdir(parents=True)
        shutil.copy(WRAPPER.parents[1] / "special.sh", root.path / "usr/share/ramos/apk-triggers")
        (root.path / "usr/local/sbin/ramos").write_text("#!/bin/sh\nexit 0\n")
        (root.path / "usr/local/sbin/ramos").chmod(0o755)
        special = render_special(load_recipes(home / "none").usable, "alpine")
        (root.path / SPECIAL_FILE).write_text(special)
        subprocess.run(["mount", "--bind", mirror.path, root.path / "mirror"], check=True)
    bare = System(home / "bare", "/sbin/apk")
    return bare, System(home / "wrapped", "/usr/local/sbin/apk"), mirror


def test_ordinary_operations_end_as_without_the_wrapper(
    apk: Path, tmp_path: Path, private_mounts: None
) -> None:
    del private_mounts
    bare, wrapped, mirror = make_systems(apk, tmp_path)
    assert bare.list_files() == wrapped.list_files()
    codes = set()
    for line in CALLS.strip("\n").split("\n"):
        words = line.split()
        if words == ["NEWER"]:
            mirror.package("htop").unlink()
            alpine_mirror.add_package(mirror, NEWER)
            alpine_mirror.write_indexes(mirror)
            continue
        expected = bare.call(words)
        assert wrapped.call(words) == expected, line
        assert wrapped.list_files() == bare.list_files(), line
        codes.add(expected[0])
    assert {0, 1} <= codes


def test_special_packages_do_not_come_in_by_themselves(
    apk: Path, tmp_path: Path, private_mounts: None
) -> None:
    """What an ordinary package needs goes to the engine, however few words are asked for."""
    del private_mounts
    _, wrapped, mirror = make_systems(apk, tmp_path)
    assert wrapped.call(["add", "htop"])[0] == 0
    known = (wrapped.path / "run/ramos/apk-pullers").read_text().splitlines()[1:]
    assert known == ["linux-firmware-odd"], "what cannot be pulled is not asked for"
    for spec in (
        Spec("needs", {"x": b""}, depends=["linux-firmware-odd"], provides=["so:needs=1"]),
        Spec("outer", {"usr/bin/outer": b""}, depends=["nano", "so:needs"]),
    ):
        alpine_mirror.add_package(mirror, spec)
    alpine_mirror.write_indexes(mirror)
    calls = wrapped.path / "calls"
    ramos = wrapped.path / "usr/local/sbin/ramos"
    ramos.write_text('#!/bin/sh\necho "$@" >>/calls\nexit 7\n')
    for words in (
        *("add needs", "add -q needs", "add -qqqq needs", "add -- needs", "add tree outer"),
        *(
            "add -U outer",
            "add -X /mirror/v3.23/community outer",
            "add -t .x outer",
            "add so:needs",
        ),
    ):
        assert wrapped.call(words.split())[0] == 7, words
        assert calls.read_text() == "pkg add linux-firmware-odd\n", words
        calls.unlink()
    assert wrapped.call(["add", "--simulate", "needs"])[0] == 0
    assert calls.read_text() == "pkg explain linux-firmware-odd\n"


def test_the_words_of_a_mixed_command_are_told_apart(
    apk: Path, tmp_path: Path, private_mounts: None
) -> None:
    del private_mounts
    _, wrapped, _ = make_systems(apk, tmp_path)
    calls = wrapped.path / "calls"
    (wrapped.path / "usr/local/sbin/ramos").write_text('#!/bin/sh\necho "$@" >>/calls\n')
    assert wrapped.call(["add", "-t", "grub", "linux-lts=6.1-r0", "grub", "htop"])[0] == 0
    assert calls.read_text() == "pkg add linux-lts=6.1-r0 grub\n"
    assert "grub=" in (wrapped.path / "etc/apk/world").read_text(), "the virtual package"
    code, _, said = wrapped.call(["add", "linux-lts<6.2"])
    assert (code, b"only NAME and NAME=VERSION" in said) == (2, True)
