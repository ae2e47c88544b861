"""Commits on a real overlay: what was saved is what the next boot shows."""

from pathlib import Path

import pytest

from ramos.compare import find_differences
from tests.root.lab import Lab, call


@pytest.fixture(params=["btrfs", "tmpfs"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    made = Lab(tmp_path, upper_kind=request.param).make()
    made.boot(mode="clean")
    made.places.boot_file.write_text("mode=default\ngeneration=0\n")
    return made


def check_same_after_boot(lab: Lab) -> None:
    """A copy of what the running system shows equals what the next boot shows."""
    before = lab.top / "before"
    before.mkdir()
    call("cp", "-a", f"{lab.places.root}/.", before)
    lab.boot()
    assert not list(find_differences(before, lab.places.root))


def test_first_and_second_commit(lab: Lab) -> None:
    root = lab.places.root
    (root / "new").write_text("hello")
    (root / "a/one").unlink()
    (root / "b/c/four").write_text("changed")
    report = lab.commit(message="first")
    assert report.generation == 1
    assert report.whiteouts == 1
    (root / "new").unlink()
    (root / "b/three").write_text("changed too")
    second = lab.commit()
    assert (second.generation, second.parent, second.layers) == (2, 1, 2)
    check_same_after_boot(lab)
    assert not lab.commit().generation
