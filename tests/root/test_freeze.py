"""Freezing: everything else stands still, and never for longer than its maker lives.

Each case runs in a process namespace of its own, so that nothing outside can be stopped.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PRELUDE = """
import os, pathlib, signal, subprocess, sys, threading, time
sys.path.insert(0, {repository!r})
from ramos import freeze

def count(path):
    return int(path.read_text() or 0)

COUNTER = '''
import pathlib, sys, time
number = 0
while True:
    number += 1
    pathlib.Path(sys.argv[1]).write_text(str(number))
'''

def start(name):
    path = pathlib.Path({folder!r}) / name
    path.write_text("0")
    process = subprocess.Popen([sys.executable, "-c", COUNTER, str(path)])
    while count(path) == 0:
        time.sleep(0.01)
    return process, path

def wait_until(test):
    deadline = time.monotonic() + 20
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""


def run_isolated(folder: Path, script: str, *, with_cgroups: bool = True) -> None:
    """Run a script as the first process of its own process namespace."""
    text = PRELUDE.format(repository=str(REPOSITORY), folder=str(folder)) + textwrap.dedent(script)
    hide = "" if with_cgroups else "umount -l /sys/fs/cgroup/unified /sys/fs/cgroup; "
    argv = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c"]
    argv += [f'{hide}{sys.executable} -c "$1" & wait $!', "sh", text]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout


def test_others_stand_still_and_run_again(tmp_path: Path) -> None:
    script = """
    one, a = start("a")
    two, b = start("b")
    stopped, c = start("c")
    stopped.send_signal(signal.SIGSTOP)
    with freeze.freeze_others():
        before = (a.read_text(), b.read_text())
        time.sleep(0.2)
        assert (a.read_text(), b.read_text()) == before
    before = (count(a), count(b))
    wait_until(lambda: count(a) > before[0] and count(b) > before[1])
    state = pathlib.Path(f"/proc/{stopped.pid}/stat").read_text().split(")")[1].split()[0]
    assert state == "T", "what somebody else had stopped stays stopped"
    """
    run_isolated(tmp_path, script, with_cgroups=False)


@pytest.mark.parametrize("moment", range(4))
def test_a_killed_committer_leaves_nothing_frozen(tmp_path: Path, moment: int) -> None:
    script = f"""
    one, a = start("a")
    freezer = '''
import sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from ramos import freeze
with freeze.freeze_others():
    print("frozen", flush=True)
    time.sleep(60)
'''
    # It is told from whoever watches by being spared: this process must not be stopped itself.
    child = subprocess.Popen([sys.executable, "-c", freezer])
    watcher = os.getpid()
    time.sleep({moment} * 0.05 + 0.02)
    child.kill()
    child.wait()
    before = count(a)
    wait_until(lambda: count(a) > before + 5)
    """
    run_isolated(tmp_path, script, with_cgroups=False)
