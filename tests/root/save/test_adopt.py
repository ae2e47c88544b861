"""A stick that was laid out by hand in the older way becomes one with generations."""

from pathlib import Path

import pytest

from ramos.booted import read_boot
from ramos.save.adopt import adopt_old_layout
from ramos.store.generations import list_generations
from tests.labs.lab import Lab, call


@pytest.fixture(params=["btrfs", "tmpfs"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, private_mounts: None) -> Lab:
    """Such a stick, booted from its files."""
    del private_mounts
    lab = Lab(tmp_path, upper_kind=request.param).make().boot_first()
    for name, text in (("upperfs-backup", "old"), ("upperfs", "new")):
        tree = lab.top / name
        tree.mkdir()
        (tree / "six").write_text(text)
        image = lab.places.persist / f"{name}.squashfs"
        call("mksquashfs", tree, image, "-quiet", "-no-progress")
    return lab


def test_an_older_layout_is_adopted(lab: Lab) -> None:
    """By the first save of the boot; the later ones know what the boot runs on."""
    persist = lab.places.persist
    for number in (3, 4, 5):
        (lab.places.root / f"added{number}").write_text("today")
        report = lab.commit(full=number == 5)
        assert (report.generation, report.parent) == (number, number - 1)
    made = {g.number: g for g in list_generations(persist)}
    assert [made[n].parent for n in (1, 2, 3)] == [0, 1, 2]
    assert not (persist / "upperfs.squashfs").exists()
    for number in (3, 4, 5):
        lab.boot(number)
        assert (lab.places.root / "six").read_text() == "new"
        assert (lab.places.root / f"added{number}").exists()
    lab.boot(1)
    assert (lab.places.root / "six").read_text() == "old"


def test_an_adoption_that_was_cut_off_goes_on(lab: Lab) -> None:
    """The generations are there, and nobody has noted yet that the boot runs on one of them."""
    adopt_old_layout(lab.places, read_boot(lab.places))
    boot_file = lab.places.boot_file
    boot_file.write_text(boot_file.read_text().replace("generation=2", "generation=0"))
    (lab.places.root / "added").write_text("today")
    assert lab.commit().parent == 2
    lab.boot()
    assert (lab.places.root / "six").read_text() == "new"
