"""A mirror of Alpine's shape that a whole image is built from: Alpine's packages, and stand-ins.

`python3 -m tests.labs.alpine DIR` makes one in the new folder DIR, with its public key in DIR/keys.
Every package of the donor (tests/labs/donor.py), its kernel among them, is packed again as it is;
its kernel once more as linux-lts; what RAMOS wants besides, in any profile, stands in
tests/labs/standins.py; the real apk is its apk-tools-static.
"""

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

import filelock

from tests.labs import alpine_kernel, alpine_mirror, alpine_root, donor, standins
from tests.labs.alpine_mirror import Mirror, Spec
from tests.labs.wheels import CACHE

LABS = CACHE / "alpine-lab"
# What makes a lab what it is.
SOURCES = ("tests/labs/*.py", "tests/labs/*.txt", "ramos/formats/*.py", "ramos/image/*.packages")
# What Alpine's own alpine-base needs, as far as it is here.
BASE = "alpine-baselayout alpine-keys alpine-release apk-tools busybox busybox-openrc openrc"


def make_lab(directory: Path) -> Mirror:
    """A folder with `v3.23`, `keys` and the private key."""
    parent = directory.absolute().parent
    with tempfile.TemporaryDirectory(prefix="alpine-lab-", dir=parent) as name:
        scratch = Path(name)
        specs = list_specs(scratch / "packages")
        made = alpine_mirror.make_mirror(scratch, specs, tool=alpine_root.provide_apk())
        made.key.rename(made.path / made.key.name)
        made.keys.rename(made.path / "keys")
        made.path.rename(directory)
    return open_lab(directory)


def open_lab(directory: Path) -> Mirror:
    """A lab that was made before."""
    return Mirror(directory, next(directory.glob("*.rsa")), directory / "keys")


def provide_lab() -> Mirror:
    """The lab of the tests; made once for each state of what makes it."""
    digest = hashlib.sha256(alpine_root.name_root().encode())
    for pattern in SOURCES:
        for path in sorted(CACHE.parent.glob(pattern)):
            digest.update(path.read_bytes())
    place = LABS / digest.hexdigest()[:16]
    LABS.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(LABS / "lock"):
        if not place.exists():
            for stale in (path for path in LABS.iterdir() if path.is_dir()):
                shutil.rmtree(stale)
            make_lab(place)
    return open_lab(place)


def list_specs(home: Path) -> list[Spec]:
    """All packages: those of one's own root first, the donor's, what stands in for others."""
    specs: dict[str, Spec] = {}
    for root in dict.fromkeys((alpine_root.provide_root(), donor.provide_root())):
        found = alpine_root.list_specs(home / root.name, root)
        specs = {spec.name: spec for spec in found} | specs
    base = Spec("alpine-base", alpine_root.find_release_files(), BASE.split())
    for spec in (base, alpine_kernel.make_kernel(alpine_kernel.LTS), *standins.list_standins()):
        specs.setdefault(spec.name, spec)
    return list(specs.values())


def main() -> None:
    """Make a lab, and say what is in it."""
    if len(sys.argv) != 2:
        sys.exit("usage: python3 -m tests.labs.alpine DIR")
    make_lab(Path(sys.argv[1]))
    print("\n".join(describe()))


def describe() -> list[str]:
    """Whose packages these are, in a few lines."""
    kernel = f"and: its {alpine_kernel.OLD.package}, renamed, for {alpine_kernel.LTS.package}"
    return [f"Alpine of the tests: {alpine_root.name_root()}", *standins.describe(), kernel]


if __name__ == "__main__":
    main()
