"""What the engine changes in dpkg's database: whole files, under dpkg's own lock."""

import subprocess
import sys
from pathlib import Path

from ramos.packages import debian
from ramos.packages.recipe import parse_recipe
from tests.labs.packagelab import make_site

RECIPE = """base = "debian"
match = ["linux-*"]
[move]
"lib/modules/*" = "modules"
[scripts]
drop = ["postrm"]
"""
# What dpkg does: it holds its lock, and replaces a list as a whole.
DPKG = """
import fcntl, pathlib, sys, time
info = pathlib.Path(sys.argv[1], "info")
lock = open(sys.argv[1] + "/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
text = (info / "linux-1.list").read_bytes()
print("locked", flush=True)
time.sleep(0.7)
(info / "new").write_bytes(text + b"/usr/share/new\\n")
(info / "new").rename(info / "linux-1.list")
"""


def test_lists_are_changed_under_the_lock_of_dpkg(tmp_path: Path) -> None:
    database = tmp_path / "var/lib/dpkg"
    listing = database / "info/linux-1.list"
    listing.parent.mkdir(parents=True)
    listing.write_text(
        "/.\n/lib/modules/6\n/lib/modules/6/a.ko\n/usr/share/\udcffold\n", errors="surrogateescape"
    )
    for script in ("postrm", "prerm"):
        listing.with_suffix(f".{script}").touch()
    site = make_site(debian, "6", tmp_path, tmp_path)
    argv = [sys.executable, "-c", DPKG, str(database)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as dpkg:
        assert dpkg.stdout is not None
        assert dpkg.stdout.readline() == b"locked\n"
        debian.release_files(site, "linux-1", parse_recipe(RECIPE, "linux.toml"))
    assert listing.read_bytes() == b"/.\n/usr/share/\xffold\n/usr/share/new\n"
    assert sorted(path.name for path in listing.parent.iterdir()) == [
        "linux-1.list",
        "linux-1.prerm",
    ]
    listing.chmod(0o640)
    with listing.open("rb") as before:
        recipe = parse_recipe(RECIPE.replace("lib/modules", "usr"), "linux.toml")
        debian.release_files(site, "linux-1", recipe)
        assert before.read().endswith(b"/usr/share/new\n"), "it is replaced, never written into"
    assert (listing.read_bytes(), listing.stat().st_mode & 0o777) == (b"/.\n", 0o640)
