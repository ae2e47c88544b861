"""What runs inside the user-mode Linux after the power was cut: the next start goes on.

Run by `recovery`; each disk of the machine is a stick that a cut has left, its one argument the
directory shared with it. What is saved is the state before the upgrade: the RAM is lost with the
power. Owns: recovering, the upgrade once more where the plan says so (a user-mode Linux takes 20 s
of processor time for that), and the verdict on what is on the stick then.
"""

import os
import subprocess
import sys
import traceback
from pathlib import Path

from ramos import layout
from ramos.boot import kernels
from ramos.boot.esp import read_env
from ramos.packages import change, engine, journal
from ramos.packages.site import Site
from tests.crash import bases, mounts
from tests.crash.bases import Base
from tests.crash.check import LADDER, REPAIRED
from tests.crash.upgrade_inside import make_site, upgrade

PLAN, VERDICTS = "plan", "verdicts"
UPGRADE = "upgrade"


def check_clean(site: Site) -> list[str]:
    """Nothing is left of what was interrupted; the kernels that are there, whole, each with its
    modules."""
    persist = site.persist
    assert not journal.journal_path(persist).exists()
    left = [p.name for p in persist.rglob("*") if p.suffix in (".tmp", ".replaced")]
    assert left == [], left
    with site.open_esp(False) as esp:
        complete = kernels.list_complete(esp)
        assert complete == kernels.list_all(esp)
        assert all(kernels.is_whole(esp, name) for name in complete)
    images = {path.name for path in persist.glob("modules-*.squashfs")}
    assert {layout.modules_image(name) for name in complete} <= images, images
    return complete


def go_on(base: Base, site: Site, plan: str) -> None:
    """Recover, check; upgrade once more, check."""
    with engine.workplace(site):
        change.recover(site)
    assert base.old in check_clean(site)
    if plan == UPGRADE:
        check_upgrade(base, site)
    mounts.unmount(site.persist)


def check_upgrade(base: Base, site: Site) -> None:
    """The new kernel is there and on trial, and the package manager is content."""
    upgrade(site)
    assert check_clean(site) == [base.old, base.new]
    images = {path.name for path in site.persist.glob("modules-*.squashfs")}
    assert images == {layout.modules_image(name) for name in (base.old, base.new)}
    with site.open_esp(False) as esp:
        env = read_env(esp)
    assert (env.good, env.trial, env.tries) == (base.old, base.new, 2), env
    manager = site.manager
    labels = {manager.read_label(path) for path in manager.list_packages(site)}
    assert labels == base.labels
    base.check_system(site)


def judge_disk(home: Path, disk: str, share: Path) -> str:
    """What went wrong, or nothing; in a process of its own, which may die."""
    # As the boot repairs it.
    for command in LADDER[1:]:
        done = subprocess.run([*command, f"{disk}2"], capture_output=True, check=False)
        if done.returncode <= REPAIRED:
            break
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            base = bases.find_base(share)
            go_on(base, make_site(base, home, share, disk), (share / PLAN).read_text())
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4000:])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return text or (f"it ended with {code}" if code else "")


def main() -> None:
    """Every disk, one after the other."""
    share, home = Path(sys.argv[1]), Path("/tmp/lab")
    home.mkdir()
    disks = sorted(str(path) for path in Path("/dev").glob("vd?"))
    verdicts = [judge_disk(home / Path(disk).name, disk, share) for disk in disks]
    (share / VERDICTS).write_text("\0".join(verdicts))


if __name__ == "__main__":
    main()
