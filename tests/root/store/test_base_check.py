"""Base images are read before they are trusted: a flipped bit is found, said, and not sealed."""

import os
from pathlib import Path

import pytest

from ramos.errors import DamagedError
from ramos.linux import verity
from ramos.progress import quiet
from ramos.store import seal
from tests.labs.lab import Lab

IMAGES = ("rootfs.squashfs", "modules-6.1.squashfs")


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    """A stick with two base images and a generation that names them."""
    made = Lab(tmp_path).make().boot_first()
    for name in IMAGES:
        (made.places.persist / name).write_bytes(os.urandom(1 << 20))
    (made.places.root / "file").write_text("1")
    made.commit()
    return made


def check(lab: Lab) -> seal.BaseState:
    seal.check_base(lab.places.persist, lab.places.run, quiet)
    return seal.read_base_state(lab.places.persist, lab.places.run)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("at", [0, 1 << 19, (1 << 20) - 1])
def test_a_flip_in_an_unsealed_base_image_is_found_and_said(lab: Lab, name: str, at: int) -> None:
    path = lab.places.persist / name
    data = bytearray(path.read_bytes())
    data[at] ^= 8
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=name):
        check(lab)
    state = seal.read_base_state(lab.places.persist, lab.places.run)
    assert [text.partition(":")[0] for text in state.damaged] == [name]
    assert {*state.sealed, *state.read} == {*IMAGES} - {name}, "the other one was checked, too"
    assert verity.measure_verity(path) == "", "no seal makes it official"
    assert f"base image DAMAGED: {name}" in seal.describe_base(state)[0]


def test_a_lost_byte_is_found(lab: Lab) -> None:
    os.truncate(lab.places.persist / IMAGES[0], (1 << 20) - 1)
    with pytest.raises(DamagedError, match="1048575 bytes instead of 1048576"):
        check(lab)


def test_whole_images_are_read_in_every_boot_without_a_seal(lab: Lab) -> None:
    before = seal.read_base_state(lab.places.persist, lab.places.run)
    assert sorted(before.unknown) == sorted(IMAGES)
    assert "not checked yet" in seal.describe_base(before)[0]
    state = check(lab)
    assert sorted((*state.sealed, *state.read)) == sorted(IMAGES)
    assert not state.damaged
    assert not state.unknown
    left = [file.path for file in seal.list_unsealed(lab.places.persist)]
    assert sorted(left) == sorted(state.read)
    (lab.places.run / seal.RESULT_FILE).unlink()
    again = seal.read_base_state(lab.places.persist, lab.places.run)
    assert again.unknown == state.read, "what was read before a boot says nothing of this one"
