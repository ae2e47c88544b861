"""ramosd's service under the supervise-daemon and the BusyBox that Alpine ships."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.labs import alpine_root
from tests.labs.isolate import isolate

# A root under an upper, with a name for each program; the test's own lines run in it.
ENTER = """
set -eu
root=$1 services=$2 work=$3
mount -t tmpfs none "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" none "$work/root"
cd "$work/root"
mount -t proc proc proc
mount -t tmpfs none dev
mknod -m 666 dev/null c 1 3
mount -t tmpfs none run
mkdir -p run/openrc run/ramos usr/share/ramos/services
touch run/openrc/softlevel run/ramos/boot
chroot . /bin/busybox --install -s
cp "$services/keep-ramosd" usr/share/ramos/services
cp "$services/openrc/ramosd" etc/init.d/ramosd
cat >usr/sbin/ramosd
chmod 755 usr/sbin/ramosd
exec chroot . /bin/sh -euc "$4"
"""
FAILING = "#!/bin/sh\necho 'no such stick' >&2\nexit 1\n"
# It says more than a pipe holds, without being told that nobody reads; then it stays.
TALKING = """#!/bin/sh
trap '' PIPE
for number in $(seq 9999); do echo 'a line of the log' >&2 || :; done 2>/dev/null
echo up >/run/ramos/up
exec sleep 2147483647
"""
START = "rc-service -q ramosd start 2>/dev/null"
AWAIT = 'await() { for _ in $(seq 300); do if [ -s "$1" ]; then return; fi; usleep 100000; done; }'


def enter(work: Path, ramosd: str, lines: str) -> str:
    """What the lines print in a system that has this ramosd."""
    root, services = alpine_root.provide_root(), REPOSITORY / "services"
    if not (root / "sbin/supervise-daemon").exists():
        pytest.skip("RAMOS_ALPINE_ROOT has no OpenRC")
    argv = isolate(["sh", "-c", ENTER, "sh", str(root), str(services), str(work), lines])
    done = subprocess.run(argv, input=ramosd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_fails_is_logged_waited_for_and_told(tmp_path: Path) -> None:
    log = "/var/log/messages"
    lines = f"""{AWAIT}; syslogd -O {log}; {START}; await /run/ramos/ramosd.failed
        grep -c 'ramosd: no such stick' {log}; cat /run/ramos/ramosd.failed
        cut -d ' ' -f 1 /proc/uptime; rc-service -q ramosd stop; cut -d ' ' -f 1 /proc/uptime
        rc-service ramosd status || :; rc-service -q ramosd start; ls /run/ramos"""
    count, word, before, after, *rest = enter(tmp_path, FAILING, lines).splitlines()
    assert count == "3"
    assert word.startswith("ramosd does not stay up (3 times)")
    assert float(after) - float(before) < 2, "it is ended while it waits"
    assert "stopped" in rest[0]
    assert "ramosd.failed" not in rest, "a start by hand begins anew"


def test_it_runs_where_nothing_takes_its_log(tmp_path: Path) -> None:
    lines = f"{AWAIT}; {START}; await /run/ramos/up; cat /run/ramos/up /run/ramos/ramosd.starts"
    up, starts = enter(tmp_path, TALKING, lines).splitlines()
    assert up == "up"
    assert starts.split()[0] == "1"
