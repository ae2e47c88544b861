"""A save elsewhere, brought back: the system that boots then is the one that went down."""

import os
import shutil
from pathlib import Path

import pytest

from ramos.save.exchange import import_image
from ramos.shutdown.finalsave import save_to
from tests.labs.lab import Lab
from tests.labs.tree import ACL, capture, explain


@pytest.fixture(params=["btrfs", "tmpfs"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    return Lab(tmp_path, upper_kind=request.param).make().boot_first()


@pytest.mark.parametrize("is_saved_before", [False, True])
def test_saved_elsewhere_and_imported(lab: Lab, is_saved_before: bool) -> None:
    root, elsewhere = lab.places.root, lab.top / "elsewhere"
    elsewhere.mkdir()
    (root / "gone").write_text("saved, and deleted then")
    (root / "d").mkdir()
    (root / "d/stays").write_text("stays")
    if is_saved_before:
        lab.commit()
    (root / "gone").unlink()
    shutil.rmtree(root / "b")
    (root / "a/one").write_text("changed")
    os.utime(root / "a/one", ns=(1, 1_600_000_000_999_999_999))
    os.link(root / "a/one", root / "twin")
    (root / "early").write_text("before 1970")
    os.utime(root / "early", (-5, -5))
    for name in ("a/one", "d"):
        os.setxattr(root / name, "system.posix_acl_access", ACL)
    expected = capture(root)
    times = (root / "tmp").stat()
    (root / "tmp/excluded").write_text("never saved")
    os.utime(root / "tmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    path = Path(save_to(lab.places, lab.config, elsewhere, lambda *_: None)["path"])
    assert sorted(os.listdir(elsewhere)) == [path.name, f"{path.name}.acl"]
    assert path.stat().st_mode & 0o777 == 0o600
    import_image(lab.places, path, lab.config, add=True, on_progress=lambda *_: None)
    lab.boot()
    assert explain(expected, capture(root)) == []
    assert (root / "a/one").stat().st_ino == (root / "twin").stat().st_ino
    assert not (root / "tmp/excluded").exists()
