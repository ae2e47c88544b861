"""A clone has every name of the stick, and is told from it: no save and no ESP write goes there."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ramos.boot import esp
from ramos.booted import Boot, read_boot
from ramos.errors import RamosError
from ramos.linux.mounts import find_mount
from ramos.stick import check, identity
from ramos.store.generations import list_numbers
from tests.labs.lab import Lab, call


def find_node(lab: Lab) -> Path:
    mounted = find_mount(lab.places.persist)
    assert mounted is not None
    return Path(mounted.source)


def note_proof(lab: Lab, sequence: int) -> None:
    """What init would have left in /run/ramos/boot."""
    number = max(list_numbers(lab.places.persist))
    data = (lab.places.persist / f"upperfs/generations/{number:06d}").read_bytes()
    end = hashlib.sha256(data.rpartition(b"end=")[0]).hexdigest()
    lines = f"persist_uuid={check.read_ext4_uuid(find_node(lab))}\ndisk_sequence={sequence}\n"
    lines += f"proof_number={number}\nproof_end={end}\n"
    with lab.places.boot_file.open("a") as file:
        file.write(lines)


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    """A system that runs from generation 1."""
    made = Lab(tmp_path, restore="ram").make().boot_first()
    change(made)
    made.commit()
    made.boot()
    note_proof(made, check.read_sequence(find_node(made)))
    return made


def change(lab: Lab) -> None:
    with (lab.places.root / "file").open("a") as file:
        file.write("more\n")


def swap(lab: Lab, image: Path) -> None:
    """Another stick where the first one was; its file system has the same UUID."""
    call("umount", lab.places.persist)
    call("mount", "-o", "loop,noatime", image, lab.places.persist)


def clone(lab: Lab) -> Path:
    """A copy of the stick, byte by byte."""
    call("sync", "-f", lab.places.persist)
    return Path(shutil.copyfile(lab.top / "persist.img", lab.top / "clone.img"))


def go_own_way(lab: Lab) -> Path:
    """A clone made before generation 1 was, that has one of its own."""
    other = clone(lab)
    swap(lab, other)
    path = lab.places.persist / "upperfs/generations/000001"
    body = path.read_bytes().rpartition(b"end=")[0].replace(b"created=", b"created=1")
    path.write_bytes(body + b"end=" + hashlib.sha256(body).hexdigest().encode() + b"\n")
    swap(lab, lab.top / "persist.img")
    return other


def test_swapped_clone_refuses_a_save(lab: Lab) -> None:
    other = go_own_way(lab)
    change(lab)
    swap(lab, other)
    with pytest.raises(RamosError, match="copy of that stick: its generation 1 is another one"):
        lab.commit()
    assert list_numbers(lab.places.persist) == [1]
    swap(lab, lab.top / "persist.img")
    assert lab.commit().generation == 2


def test_swapped_clone_without_the_generation_refuses_a_save(lab: Lab) -> None:
    other = clone(lab)
    swap(lab, other)
    (lab.places.persist / "upperfs/generations/000001").unlink()
    change(lab)
    with pytest.raises(RamosError, match="copy of that stick: it has no generation 1"):
        lab.commit()


def test_lost_file_makes_no_clone_of_a_disk_that_stayed(lab: Lab) -> None:
    path = lab.places.persist / "upperfs/generations/000001"
    path.unlink()
    check.check_stick(lab.places, read_boot(lab.places))
    os.mkfifo(path)
    check.check_stick(lab.places, read_boot(lab.places))


def test_clone_of_an_encrypted_stick_is_known_by_the_uuid_around_it(lab: Lab) -> None:
    boot = Boot(luks_uuid="11111111-2222-3333-4444-555555555555")
    image = lab.top / "luks.img"
    with image.open("wb") as file:
        file.truncate(40 << 20)
    argv = ["cryptsetup", "luksFormat", "--batch-mode", "--key-file", "-", "--pbkdf", "pbkdf2"]
    argv += ["--pbkdf-force-iterations", "1000", "--uuid", "99999999-2222-3333-4444-555555555555"]
    subprocess.run([*argv, str(image)], input=b"key", check=True)
    shown = subprocess.run(
        ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
    )
    node = Path(shown.stdout.strip())
    try:
        assert "it is another stick" in check.find_difference(boot, lab.places.persist, node)
    finally:
        call("losetup", "--detach", node)


def test_swapped_clone_refuses_a_write_to_its_esp(lab: Lab) -> None:
    boot, persist = read_boot(lab.places), lab.places.persist
    esp.refuse_copy(boot, find_node(lab), persist)
    other = go_own_way(lab)
    esp.refuse_copy(boot, find_node(lab), persist)
    swap(lab, other)
    with pytest.raises(RamosError, match=r"cannot write to the ESP.*another one"):
        esp.refuse_copy(boot, find_node(lab), persist)
    call("umount", persist)
    with pytest.raises(RamosError, match="was unplugged"):
        esp.refuse_copy(boot, Path("/dev/loop-of-a-clone"), persist)


def test_esp_of_another_disk_than_persist_is_refused_as_a_clone(lab: Lab) -> None:
    boot = Boot(disk_sequence=identity.read_sequence("no-such-disk") + 1)
    with pytest.raises(RamosError, match="persist is on another disk"):
        esp.refuse_copy(boot, Path("/dev/null"), lab.places.persist)
