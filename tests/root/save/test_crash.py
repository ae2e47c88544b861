"""No power cut loses a save; and the lab that says so would notice if one did."""

import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.linux import fs
from tests.crash import mounts
from tests.crash.device import Stick, persist_mounted, plugged
from tests.crash.log import Record, WriteLog
from tests.crash.replay import materialize
from tests.crash.states import Piece, State
from tests.crash.workloads import make_image, make_sequence, record

LAST_LINE = re.compile(r"states (\d+) old (\d+) new (\d+) neither (\d+)")
STATES = 1000


@pytest.fixture
def scratch(tmp_path: Path, private_mounts: None) -> Path:  # noqa: ARG001
    """A directory in memory."""
    mounts.mount("scratch", tmp_path, "tmpfs")
    return tmp_path


@pytest.fixture
def stick(scratch: Path) -> Iterator[Stick]:
    """A stick with an empty persist."""
    make_image(scratch / "base")
    with plugged(scratch / "base", scratch / "stick") as found:
        yield found


def run_lab(repository: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.crash", *options]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


def test_no_power_cut_loses_a_save(repository: Path) -> None:
    done = run_lab(repository, "--states", str(STATES))
    assert done.returncode == 0, done.stdout + done.stderr
    match = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert match, done.stdout
    tried, old, new, neither = map(int, match.groups())
    assert (tried, neither, old + new) == (STATES, 0, STATES)
    assert old > 0
    assert new > 0


@pytest.mark.parametrize("control", ["fsync", "flushes"])
def test_a_save_without_flushes_is_found_out(repository: Path, control: str) -> None:
    done = run_lab(repository, "--states", "60", "--workload", "commit", "--control", control)
    match = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert match, done.stdout + done.stderr
    assert int(match[4]) > 0, done.stdout
    assert done.returncode == 0


def list_since(log: WriteLog, mark: str) -> tuple[Record, ...]:
    at = next(n for n, r in enumerate(log.records) if r.kind == "mark" and r.text == mark)
    return log.records[at + 1 :]


def test_a_flush_stands_in_the_log_behind_what_it_made_durable(stick: Stick, scratch: Path) -> None:
    data = os.urandom(200_000)
    with persist_mounted(stick, scratch / "persist") as persist:
        stick.mark("unsynced")
        (persist / "lazy").write_bytes(os.urandom(100_000))
        time.sleep(0.2)
        assert list_since(stick.read_log(), "unsynced") == ()
        stick.mark("synced")
        (persist / "file").write_bytes(data)
        fs.sync_file(persist / "file")
        since = list_since(stick.read_log(), "synced")
    written = [at for at, found in enumerate(since) if data[:4096] in found.data]
    flushed = [at for at, found in enumerate(since) if found.kind == "flush"]
    assert written
    assert flushed
    assert written[0] < flushed[0]
    assert since[-1].kind == "flush"


def test_the_last_state_is_the_disk_itself(scratch: Path) -> None:
    recording = record(make_sequence(), scratch / "run")
    log = recording.log
    everything = State(len(log.records), len(log.records), (), "")
    materialize(log, everything, scratch / "disk")
    check = subprocess.run(["e2fsck", "-f", "-n", scratch / "disk"], capture_output=True)
    assert check.returncode == 0, check.stdout
    torn = State(1, 0, (Piece(1, ((512, 1024),)),), "")
    materialize(log, torn, scratch / "torn")
    write = log.records[1]
    assert write.kind == "write"
    start = write.offset
    before, after = log.base.read_bytes(), (scratch / "torn").read_bytes()
    assert after[start + 512 : start + 1024] == write.data[512:1024]
    assert after[:start] + after[start + 4096 :] == before[:start] + before[start + 4096 :]
    assert after[start + 1024 :] == before[start + 1024 :]


def read_qemu_log(path: Path) -> Iterator[Record]:
    """The entries of a log that QEMU's `blklogwrites` wrote (the format of dm-log-writes)."""
    data = path.read_bytes()
    at = 512
    while at + 32 <= len(data):
        sector, sectors, flags, length = struct.unpack_from("<QQQQ", data, at)
        if (sectors, flags, length) == (0, 0, 0):
            return
        at += 512
        if flags & 1:
            yield Record("flush")
        if sectors:
            yield Record("write", sector * 512, data[at : at + sectors * 512])
            at += sectors * 512


def test_the_log_agrees_with_that_of_qemu(stick: Stick, scratch: Path) -> None:
    """QEMU stands between the loop device and our server, and both log what passes."""
    (scratch / "qemu.log").touch()
    os.truncate(scratch / "qemu.log", 64 << 20)
    (scratch / "export").touch()
    nodes = (
        f"driver=file,node-name=disk,filename={stick.disk}",
        f"driver=file,node-name=log,filename={scratch}/qemu.log",
        "driver=blklogwrites,node-name=both,file=disk,log=log,log-sector-size=512",
    )
    export = f"type=fuse,id=export,node-name=both,mountpoint={scratch}/export,writable=on"
    command = ["qemu-storage-daemon", *(w for n in nodes for w in ("--blockdev", n))]
    with subprocess.Popen([*command, "--export", export]) as daemon:
        try:
            while not (scratch / "export").stat().st_size:
                assert daemon.poll() is None
                time.sleep(0.05)
            (scratch / "persist").mkdir()
            with mounts.mounted(scratch / "export", scratch / "persist") as persist:
                fs.write_durably(persist / "one", os.urandom(300_000))
                fs.write_durably(persist / "one", os.urandom(5000))
        finally:
            daemon.terminate()
            daemon.wait()
            subprocess.run(["umount", scratch / "export"], capture_output=True, check=False)
    ours = [entry for entry in stick.read_log().records if entry.kind != "mark"]
    theirs = list(read_qemu_log(scratch / "qemu.log"))
    assert sum(entry.kind == "flush" for entry in theirs) > 4
    assert normalise(ours) == normalise(theirs)


def test_a_drive_of_qemu_is_logged_too(stick: Stick, scratch: Path) -> None:
    """What a virtual machine writes to its stick, and the marks it leaves on a second drive."""
    (scratch / "text").write_bytes(b"upgraded".ljust(512, b"\0"))
    marks = stick.disk.with_name("mark")
    orders = {stick.disk: "write -P 7 1M 4k", marks: f"write -s {scratch}/text 0 512"}
    for file, order in orders.items():
        words = ["qemu-io", "-f", "raw", "-t", "none", "-c", order, "-c", "flush", str(file)]
        subprocess.run(words, check=True, capture_output=True)
    found = stick.read_log().records
    assert found[0] == Record("write", 1 << 20, bytes([7]) * 4096)
    assert found[1].kind == "flush"
    assert found[-1].text == "upgraded"


def normalise(records: list[Record]) -> list[frozenset[tuple[int, bytes]]]:
    """What was written between one flush and the next, sector by sector; idle flushes fall away."""
    epochs: list[frozenset[tuple[int, bytes]]] = []
    sectors: dict[int, bytes] = {}
    for entry in records:
        if entry.kind == "write":
            for start in range(0, len(entry.data), 512):
                sectors[entry.offset + start] = entry.data[start : start + 512]
        elif sectors:
            epochs.append(frozenset(sectors.items()))
            sectors = {}
    return epochs
