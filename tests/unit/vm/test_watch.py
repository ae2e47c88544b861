"""The log of the serial line: short where it is nobody's, whole where a user asked for it."""

import subprocess
from pathlib import Path

import pytest

from ramos.vm import qemu
from ramos.vm.watch import LOG_BYTES, PATIENCE, Watch


@pytest.mark.parametrize("asked", [False, True])
def test_only_a_log_that_nobody_asked_for_is_cut(asked: bool, tmp_path: Path) -> None:
    text = b"x" * (LOG_BYTES + 1)
    log = qemu.serial_log(tmp_path)
    if asked:
        log.symlink_to(tmp_path / "mine.log")
    log.write_bytes(text)
    with subprocess.Popen(["true"]) as process:
        process.wait()
        watch = Watch(process, tmp_path, kvm=False, patience=PATIENCE)
        watch.close()
        assert watch._count_output() == len(text)
    assert log.stat().st_size == (len(text) if asked else 0)
