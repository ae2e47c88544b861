"""Going down when things hang or are gone: the deadline, and the files that are kept in RAM."""

import os
import shutil
import time
from pathlib import Path

import pytest

from ramos.linux.elf import find_libraries
from ramos.shutdown import deadline, keeper

SHELL = shutil.which("sh") or ""


def await_file(path: Path, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never appeared"
        time.sleep(0.02)


def test_the_deadline_acts_after_its_time_and_not_before(tmp_path: Path) -> None:
    acted, pid_file = tmp_path / "acted", tmp_path / "run/pid"
    child = deadline.start_deadline(1.0, acted.touch, pid_file, lambda: 0)
    assert int(pid_file.read_text()) == child
    assert not acted.exists()
    await_file(acted)
    assert os.waitpid(child, 0)[1] == 0


def test_a_deadline_that_was_ended_does_not_act(tmp_path: Path) -> None:
    acted = tmp_path / "acted"
    child = deadline.start_deadline(0.5, acted.touch, tmp_path / "pid", lambda: 0)
    deadline.cancel_deadline(tmp_path / "pid")
    assert not (tmp_path / "pid").exists()
    os.waitpid(child, 0)
    time.sleep(0.7)
    assert not acted.exists()


def test_a_disk_that_moves_has_all_its_time() -> None:
    beats = iter([1, 2, 3, 3, 3, 3])
    started = time.monotonic()
    deadline.await_stillness(0.2, lambda: next(beats))
    assert time.monotonic() - started >= 0.6
    assert next(beats) == 3, "it looked no longer than it had to"


def make_root(root: Path) -> None:
    """A tree with the shell of this machine, the libraries it needs, and a script of OpenRC."""
    files = {name: str(file) for name, file in find_libraries(Path("/"), [SHELL]).items()}
    for name, source in {**files, "/bin/sh": SHELL}.items():
        target = root / name[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (root / "etc/init.d").mkdir(parents=True)
    (root / "etc/init.d/ramosd").write_text("#!/sbin/openrc-run\n")


def test_what_is_kept_is_what_this_system_has(tmp_path: Path) -> None:
    make_root(tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in keeper.list_files(tmp_path)}
    assert {"bin/sh", "etc/init.d/ramosd"} < names
    assert any("libc" in name for name in names), "with the libraries of the programs"
    assert not any("systemctl" in name for name in names)


def test_held_files_are_in_memory(tmp_path: Path) -> None:
    make_root(tmp_path)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        held = keeper.hold_files([*keeper.list_files(tmp_path), tmp_path / "absent"])
        status = Path("/proc/self/status").read_text()
        os.write(writing, f"{len(held)}\n{status}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    count, *lines = os.read(reading, 1 << 16).decode().splitlines()
    assert int(count) == len(keeper.list_files(tmp_path))
    locked = next(line.split() for line in lines if line.startswith("VmLck:"))
    total = sum(path.stat().st_size for path in keeper.list_files(tmp_path))
    assert int(locked[1]) * 1024 >= total or os.geteuid() != 0


def test_only_real_disks_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"sda": (100, 7), "loop0": (5000, 0), "zram0": (0, 9000), "ram1": (3, 3)}
    text = "".join(f"8 0 {name} 1 1 {r} 1 1 1 {w} 1 0 1 1\n" for name, (r, w) in rows.items())
    (tmp_path / "diskstats").write_text(f"{text}broken\n")
    monkeypatch.setattr(deadline, "DISKSTATS", tmp_path / "diskstats")
    assert deadline.count_sectors() == 107


def test_the_deadline_outlives_the_service_that_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, acted = tmp_path / "cgroup.procs", tmp_path / "acted"
    monkeypatch.setattr(deadline, "ROOT_GROUP", group)
    child = deadline.start_deadline(0.1, acted.touch, tmp_path / "pid", lambda: 0)
    await_file(acted)
    os.waitpid(child, 0)
    assert group.read_text() == f"{child}\n"


def test_what_is_held_is_held_until_its_owner_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stick may be there by then: only after the owner's end does that count."""
    (tmp_path / "file").write_text("text")
    asked, mark = tmp_path / "asked", tmp_path / "held"
    monkeypatch.setattr(keeper, "find_files", lambda: [tmp_path / "file"])
    monkeypatch.setattr(keeper, "MARK", mark)
    monkeypatch.setattr(deadline, "leave_service", lambda: None)

    def is_there() -> bool:
        asked.touch()
        return True

    owner = keeper.start_keeper(is_there)
    await_file(mark)
    time.sleep(0.3)
    assert not asked.exists()
    os.close(owner)
    await_file(asked)
