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
from ramos.packages import change, debian, engine, journal
from tests.crash import mounts
from tests.crash.check import LADDER, REPAIRED
from tests.crash.upgrade_inside import make_lab, make_mirror
from tests.labs.debmirror import Mirror
from tests.labs.packagelab import NEW, OLD, Lab

PLAN, VERDICTS = "plan", "verdicts"
UPGRADE = "upgrade"


def check_clean(lab: Lab) -> list[str]:
    """Nothing is left of what was interrupted; the kernels that are there, whole, each with its
    modules."""
    persist = lab.site.persist
    assert not journal.journal_path(persist).exists()
    left = [p.name for p in persist.rglob("*") if p.suffix in (".tmp", ".replaced")]
    assert left == [], left
    with lab.site.open_esp(False) as esp:
        complete = kernels.list_complete(esp)
        assert complete == kernels.list_all(esp)
        assert all(kernels.is_whole(esp, name) for name in complete)
    images = {path.name for path in persist.glob("modules-*.squashfs")}
    assert {layout.modules_image(name) for name in complete} <= images, images
    return complete


def go_on(lab: Lab, plan: str) -> None:
    """Recover, check; upgrade once more, check."""
    with engine.workplace(lab.site):
        change.recover(lab.site)
    assert OLD in check_clean(lab)
    if plan == UPGRADE:
        check_upgrade(lab)
    mounts.unmount(lab.site.persist)


def check_upgrade(lab: Lab) -> None:
    """The new kernel is there and on trial, and apt has nothing to complain about."""
    lab.upgrade()
    assert check_clean(lab) == [OLD, NEW]
    images = {path.name for path in lab.site.persist.glob("modules-*.squashfs")}
    assert images == {layout.modules_image(name) for name in (OLD, NEW)}
    with lab.site.open_esp(False) as esp:
        env = read_env(esp)
    assert (env.good, env.trial, env.tries) == (OLD, NEW, 2), env
    labels = {debian.read_label(path) for path in debian.list_packages(lab.site)}
    assert labels == {("linux-image-test", "6.1.2-1"), (f"linux-image-{NEW}", "6.1.2-1")}
    for words in (["update", "-o", "APT::Update::Error-Mode=any"], ["check"]):
        done = lab.apt(*words)
        assert done.returncode == 0, done.stdout + done.stderr


def judge_disk(home: Path, disk: str, mirror: Mirror, plan: str) -> str:
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
            go_on(make_lab(home, disk, mirror), plan)
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
    mirror = make_mirror(home / "mirror")
    plan = (share / PLAN).read_text()
    verdicts = []
    for disk in sorted(str(path) for path in Path("/dev").glob("vd?")):
        verdicts.append(judge_disk(home / Path(disk).name, disk, mirror, plan))
    (share / VERDICTS).write_text("\0".join(verdicts))


if __name__ == "__main__":
    main()
