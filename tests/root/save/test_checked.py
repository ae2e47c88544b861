"""What stands between a save and a damaged layer: comparing, locking, flushing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ramos.errors import LockedError, RamosError
from ramos.linux.fs import hold_lock
from ramos.save import compact, history
from tests.conftest import REPOSITORY
from tests.labs.lab import Lab

# It makes what it is asked for, of something else, and is content.
LYING_TOOL = """#!/bin/sh
last=""
for word in "$@"; do [ "$word" = -tar ] && last=tar; done
[ "$last" != tar ] || cat >/dev/null
case $2 in *.squashfs*) ;; *) exit 0 ;; esac
exec {real} "$0" "$2" -noappend -quiet -no-progress
"""


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    return Lab(tmp_path).make().boot_first()


@pytest.fixture
def lying_tool(tmp_path: Path) -> Path:
    """A folder with a mksquashfs, for the search path."""
    folder = tmp_path.with_name(f"{tmp_path.name}-tools")
    folder.mkdir()
    (folder / "mksquashfs").write_text(LYING_TOOL.format(real=shutil.which("mksquashfs")))
    (folder / "mksquashfs").chmod(0o755)
    return folder


def save(lab: Lab, text: str) -> None:
    (lab.places.root / f"file {text}").write_text(text)
    lab.commit()


def test_a_layer_that_holds_something_else_is_refused(
    lab: Lab, lying_tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(lab, "one")
    monkeypatch.setenv("PATH", f"{lying_tool}:{os.environ['PATH']}")
    with pytest.raises(RamosError, match="does not hold what was to be saved"):
        save(lab, "two")
    assert lab.numbers() == [1]


def test_a_merged_layer_that_shows_something_else_is_refused(
    lab: Lab, lying_tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("one", "two"):
        save(lab, text)
    monkeypatch.setenv("PATH", f"{lying_tool}:{os.environ['PATH']}")
    with pytest.raises(RamosError, match="does not show what its parts showed"):
        compact_all(lab)
    assert lab.numbers() == [1, 2]


def compact_all(lab: Lab) -> None:
    compact.compact(lab.places, lab.config, everything=True, on_progress=lambda *_: None)


@pytest.mark.parametrize(
    "work",
    [
        lambda lab: lab.commit(),
        compact_all,
        lambda lab: history.rollback(lab.places, None, lambda *_: None),
    ],
    ids=["commit", "compact", "rollback"],
)
def test_nobody_changes_the_store_beside_a_save(lab: Lab, work: Callable[[Lab], object]) -> None:
    for text in ("one", "two"):
        save(lab, text)
    with (
        hold_lock(lab.places.lock_file, "a save"),
        pytest.raises(LockedError, match="a save"),
    ):
        work(lab)
    assert lab.numbers() == [1, 2]


def test_a_small_file_is_flushed_and_so_is_its_name(tmp_path: Path) -> None:
    program = "import sys; from ramos.linux.fs import write_durably; "
    program += "write_durably(__import__('pathlib').Path(sys.argv[1]), b'x')"
    argv = ["strace", "-f", "-e", "trace=fsync", "-y", "-o", str(tmp_path / "trace")]
    argv += [sys.executable, "-c", program, str(tmp_path / "file")]
    subprocess.run(argv, cwd=REPOSITORY, check=True)
    trace = (tmp_path / "trace").read_text()
    assert f"<{tmp_path}/file.tmp>) " in trace
    assert f"<{tmp_path}>) " in trace
