"""Images that are mounted where no name leads."""

import os
import subprocess
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.linux import syscalls
from ramos.linux.mounts import mount_image

SAFE = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC


def test_nothing_of_an_image_can_be_run_or_become_root(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("text")
    image = tmp_path / "image"
    subprocess.run(["mksquashfs", tmp_path / "tree", image, "-quiet"], check=True)
    with mount_image(image) as top:
        assert (top / "file").read_text() == "text"
        assert os.statvfs(top).f_flag & SAFE == SAFE


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(8192))
    with pytest.raises(RamosError, match=r"image: it is not a squashfs image"), mount_image(image):
        pass


def test_what_is_mounted_in_a_corner_of_ones_own_is_seen_by_nobody_else(tmp_path: Path) -> None:
    if (child := os.fork()) == 0:
        try:
            syscalls.leave_mounts()
            syscalls.mount(Path("none"), tmp_path, "tmpfs")
            (tmp_path / "inside").touch()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert [*tmp_path.iterdir()] == []
