"""A full `/`: it can be saved, emptied with room at once, filled and saved again."""

import contextlib
import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ramos.layout import ENV, UPPER_RESERVE_BYTES
from ramos.save import reserve
from tests.conftest import REPOSITORY
from tests.labs.lab import Lab
from tests.root.linux.test_freeze import run_isolated

BLOCK = 1 << 20
# A btrfs below 256 MiB is never made smaller again.
UPPER_MIB = 320


class FullLab(Lab):
    """Its upper is made by the code of the initramfs; a tmpfs has limits as the kernel gives it."""

    def make_upper(self) -> None:
        upper = self.places.upper
        if self.upper_kind == "btrfs":
            image = self.top / "upper.img"
            with image.open("wb") as file:
                file.truncate(UPPER_MIB << 20)
            hook = REPOSITORY / "initramfs-hooks/lib/80-upper.sh"
            script = f'. {hook}; UPPER_KIB={UPPER_MIB * 1024}; format_btrfs "$0"'
            environ = {**os.environ, **ENV}
            subprocess.run(["sh", "-uc", script, image], env=environ, check=True)
            subprocess.run(["mount", "-o", "loop,noatime", image, upper], check=True)
        else:
            options = "size=24m,nr_inodes=400"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", upper], check=True)
        self.mounted.append(upper)
        for folder in ("upper", "work", "snapshots"):
            (upper / folder).mkdir()


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    return FullLab(tmp_path, upper_kind=request.param, persist_mib=512).make().boot_first()


def fill_with_data(folder: Path) -> None:
    """A large file, which squashes well, then small ones in what it has left."""
    write_large(folder, 1 << 40)
    fill_with_entries(folder, 2)


def write_large(folder: Path, size_bytes: int) -> None:
    folder.mkdir()
    with contextlib.suppress(OSError), (folder / "large").open("wb", buffering=0) as file:
        while file.tell() < size_bytes:
            file.write(bytes([file.tell() >> 20 & 255]) * BLOCK)


def fill_with_entries(folder: Path, size_bytes: int = 1500) -> None:
    """Small files, which btrfs keeps among its metadata, until none can be made."""
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        for number in itertools.count():
            name = folder / str(number)
            name.write_bytes(b"x" * size_bytes)
    with contextlib.suppress(FileNotFoundError):
        name.unlink()


def fill(lab: Lab, name: str, with_entries: bool) -> dict[str, int]:
    """Fill the running system in a new directory; the sizes of what is in it."""
    folder = lab.places.root / name
    if with_entries:
        space = os.statvfs(lab.places.upper)
        write_large(folder, space.f_bavail * space.f_frsize - 12 * BLOCK)
        fill_with_entries(folder)
    else:
        fill_with_data(folder)
    with pytest.raises(OSError, match="No space left"):
        (folder / "more").write_bytes(bytes(2 * BLOCK))
    with contextlib.suppress(FileNotFoundError):
        (folder / "more").unlink()
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def save(lab: Lab) -> int:
    report = lab.commit(shutdown=lab.upper_kind == "tmpfs")
    assert report.left_out == ()
    return report.generation


@pytest.mark.parametrize("lab", ["btrfs", "tmpfs"], indirect=True)
@pytest.mark.parametrize("with_entries", [False, True], ids=["data", "entries"])
def test_a_full_upper_is_saved_and_gives_room_at_once(lab: Lab, with_entries: bool) -> None:
    (lab.places.root / "early").write_text("early")
    save(lab)
    expected = fill(lab, "full", with_entries)
    assert save(lab) == 2
    shutil.rmtree(lab.places.root / "full")
    (lab.places.root / "again").write_bytes(bytes(4 * BLOCK))
    lab.boot(2)
    found = (lab.places.root / "full").iterdir()
    assert {path.name: path.stat().st_size for path in found} == expected


@pytest.mark.parametrize("lab", ["btrfs", "tmpfs"], indirect=True)
def test_a_full_upper_is_saved_once_more(lab: Lab) -> None:
    for number in (1, 2):
        # Of another name: the same once more, in the same second, would be no change.
        expected = fill(lab, f"full {number}", with_entries=False)
        assert save(lab) == number
        shutil.rmtree(lab.places.root / f"full {number}")
    lab.boot(2)
    assert not (lab.places.root / "full 1").exists()
    found = (lab.places.root / "full 2").iterdir()
    assert {path.name: path.stat().st_size for path in found} == expected


@pytest.mark.parametrize("lab", ["btrfs"], indirect=True)
def test_what_a_save_used_of_the_reserve_is_kept_for_the_next(lab: Lab) -> None:
    fill(lab, "full", with_entries=False)
    assert measure_size(lab) == (UPPER_MIB << 20) - UPPER_RESERVE_BYTES
    reserve.open_reserve(lab.places.upper)
    assert measure_size(lab) == UPPER_MIB << 20
    save(lab)
    assert measure_size(lab) == (UPPER_MIB << 20) - UPPER_RESERVE_BYTES


def measure_size(lab: Lab) -> int:
    space = os.statvfs(lab.places.upper)
    return space.f_blocks * space.f_frsize


@pytest.mark.parametrize("lab", ["tmpfs"], indirect=True)
def test_a_full_tmpfs_is_what_it_was_after_a_save(lab: Lab) -> None:
    fill(lab, "full", with_entries=False)
    before = os.statvfs(lab.places.upper)
    save(lab)
    after = os.statvfs(lab.places.upper)
    assert (after.f_blocks, after.f_files) == (before.f_blocks, before.f_files)


def save_live(top: Path, kind: str) -> None:
    """While others run, who would take any room that there is."""
    lab = FullLab(top, upper_kind=kind, persist_mib=512).make().boot_first()
    (lab.places.root / "early").write_text("early")
    lab.commit(live=True)
    fill(lab, "full", with_entries=kind == "btrfs")
    greedy = subprocess.Popen(["sh", "-c", GREEDY, "sh", lab.places.root / "full"])
    try:
        report = lab.commit(live=True)
        assert report.generation == 2
        assert report.pause_seconds > 0
        assert greedy.poll() is None
    finally:
        greedy.kill()
        greedy.wait()
    lab.boot(2)
    assert (lab.places.root / "full/large").stat().st_size
    lab.shut_down()


SAVE_LIVE = "from tests.root.save.test_full_upper import save_live; save_live"
GREEDY = 'n=0; while :; do echo x 2>/dev/null >"$1/greedy$n" && n=$((n + 1)); done'


@pytest.mark.parametrize("kind", ["btrfs", "tmpfs"])
def test_a_full_upper_is_saved_while_others_want_more(tmp_path: Path, kind: str) -> None:
    run_isolated(tmp_path, f"{SAVE_LIVE}(folder, {kind!r})")
