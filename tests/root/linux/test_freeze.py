"""Freezing: everything else stands still, and never for longer than its maker lives.

Each case runs in a process namespace of its own, so that nothing outside can be stopped.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ramos.linux.freeze import find_cgroup_root
from tests.labs.isolate import isolate

REPOSITORY = Path(__file__).resolve().parents[3]
PRELUDE = r"""
import pathlib, signal, subprocess, sys, time
folder, with_cgroups = pathlib.Path(sys.argv[1]), sys.argv[2] == "cgroups"
wait_seconds = sys.argv[3]
from ramos.linux import freeze

COUNTER = '''
import pathlib, sys
number = 0
while True:
    number += 1
    pathlib.Path(sys.argv[1]).write_text(str(number))
'''
FREEZER = '''
import time
from ramos.linux import freeze
with freeze.freeze_others():
    time.sleep(60)
'''

def count(path):
    return int(path.read_text() or 0)

def start(name):
    path = folder / name
    path.write_text("0")
    process = subprocess.Popen([sys.executable, "-c", COUNTER, str(path)])
    wait_until(lambda: count(path) > 0)
    return process, path

def wait_until(test):
    deadline = time.monotonic() + 20
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""
STAND_STILL = r"""
one, a = start("a")
two, b = start("b")
stopped, c = start("c")
stopped.send_signal(signal.SIGSTOP)
wait_until(lambda: " T " in pathlib.Path(f"/proc/{stopped.pid}/stat").read_text())
if with_cgroups:
    service = pathlib.Path("/sys/fs/cgroup/service")
    service.mkdir()
    (service / "cgroup.procs").write_text(str(two.pid))
with freeze.freeze_others():
    time.sleep(0.2)  # a system call that had begun may end
    before = (a.read_text(), b.read_text())
    time.sleep(0.2)
    assert (a.read_text(), b.read_text()) == before
    if with_cgroups:
        assert "frozen 1" in (service / "cgroup.events").read_text()
before = (count(a), count(b))
wait_until(lambda: count(a) > before[0] and count(b) > before[1])
state = pathlib.Path(f"/proc/{stopped.pid}/stat").read_text().split(")")[1].split()[0]
assert state == "T", "what somebody else had stopped stays stopped"
for process in (one, two, stopped):
    process.kill()
    process.wait()
"""
KILLED = r"""
one, a = start("a")
child = subprocess.Popen([sys.executable, "-c", FREEZER])
if wait_seconds == "frozen":
    def is_frozen():
        before = a.read_text()
        time.sleep(0.3)
        return a.read_text() == before
    wait_until(is_frozen)
else:
    time.sleep(float(wait_seconds))
child.kill()
child.wait()
before = count(a)
wait_until(lambda: count(a) > before + 5)
"""


def run_isolated(folder: Path, script: str, *words: str, with_cgroups: bool = False) -> None:
    """Run a script as process 1 (which is never stopped) of its own process namespace."""
    command = [sys.executable, "-c", PRELUDE + script, str(folder)]
    command += ["cgroups" if with_cgroups else "signals", *(words or ("0",))]
    argv = isolate(command, with_cgroups=with_cgroups)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_others_stand_still_and_run_again(tmp_path: Path) -> None:
    run_isolated(tmp_path, STAND_STILL)


def test_the_freezer_of_cgroups_is_used(tmp_path: Path) -> None:
    root = find_cgroup_root()
    if root is None:
        pytest.skip("this machine has no cgroups of version 2")
    own = root / f"ramos-test-{os.getpid()}"
    home = root / Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip().lstrip("/")
    own.mkdir()
    try:
        (own / "cgroup.procs").write_text(str(os.getpid()))  # children are born there
        run_isolated(tmp_path, STAND_STILL, with_cgroups=True)
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        for folder in (own / "service", own / "ramos-save", own):
            if folder.exists():
                folder.rmdir()


@pytest.mark.parametrize("wait_seconds", ["0.05", "0.15", "0.3", "frozen"])
def test_a_killed_committer_leaves_nothing_frozen(tmp_path: Path, wait_seconds: str) -> None:
    run_isolated(tmp_path, KILLED, wait_seconds)


LIVE_COMMIT = r"""
from ramos.save.commit import CommitRequest, commit
from ramos.config import SaveConfig
from tests.labs.lab import Lab
from tests.labs.tree import capture, explain

lab = Lab(folder, upper_kind="tmpfs").make().boot_first()
root = lab.places.root
(root / "six").write_text("changed")
(root / "sparse").write_bytes(b"x")
(root / "sparse").open("r+b").truncate(1 << 30)
WRITER = '''
import pathlib, sys
number = 0
while True:
    number += 1
    for name in ("first", "second"):
        pathlib.Path(sys.argv[1], name).write_text(str(number))
'''
writer = subprocess.Popen([sys.executable, "-c", WRITER, str(root)])
wait_until(lambda: (root / "second").exists())
for _ in range(8):
    report = commit(lab.places, CommitRequest(config=SaveConfig(reserve_mib=1), live=True))
    assert report.method == "freeze" and report.pause_seconds > 0
    time.sleep(0.02)
writer.kill()
writer.wait()
for number in lab.numbers():
    lab.boot(number)
    first, second = (root / "first").read_text(), (root / "second").read_text()
    # Either may be empty at the moment: writing a file begins with making it empty.
    assert not first or not second or int(first) - int(second) in (0, 1), (first, second)
assert (root / "six").read_text() == "changed"
assert (root / "sparse").stat().st_size == 1 << 30
lab.shut_down()
"""


def test_a_live_commit_from_tmpfs_is_one_moment(tmp_path: Path) -> None:
    run_isolated(tmp_path, LIVE_COMMIT)
