"""What a save calls done is what a boot takes, whatever names and words there are."""

import subprocess
from pathlib import Path

import pytest

from ramos.store.generations import list_generations, read_default
from tests.labs.harness import SHELLS, place
from tests.labs.lab import Lab


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    return Lab(tmp_path).make().boot_first()


def pick(lab: Lab, shell: str) -> str:
    """The generation that the verbs of the boot take from this persist."""
    fake = lab.top / "fake"
    (fake / "run/ramos").mkdir(parents=True, exist_ok=True)
    (fake / "proc").mkdir(exist_ok=True)
    (fake / "proc/uptime").write_text("1.00 1.00\n")
    lines = f'RAMOS_PERSIST_DIR={lab.places.persist}; pick_generation; echo "picked $GEN_NUMBER"'
    done = subprocess.run(
        [*SHELLS[shell], "-c", place(lines, fake)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


def check_taken(lab: Lab, number: int) -> None:
    default = read_default(lab.places.persist)
    assert default is not None
    assert default.number == number
    for shell in SHELLS:
        assert pick(lab, shell) == f"picked {number}"


def change(lab: Lab) -> None:
    with (lab.places.root / "new").open("a") as file:
        file.write("more\n")


def test_a_copy_of_an_image_under_an_odd_name_does_not_spoil_a_save(lab: Lab) -> None:
    persist = lab.places.persist
    (persist / "modules-6.1.squashfs").write_text("modules")
    (persist / "modules-6.1 (copy).squashfs").write_text("modules")
    (persist / "modules-old.squashfs").mkdir()
    change(lab)
    check_taken(lab, lab.commit().generation)
    default = read_default(persist)
    assert default is not None
    assert [file.path for file in default.base] == ["modules-6.1.squashfs"]


def test_a_reason_and_a_kernel_of_two_words_do_not_spoil_a_save(lab: Lab) -> None:
    boot_file = lab.places.boot_file
    boot_file.write_text(boot_file.read_text() + "kernel=6.1 (of my own)\n")
    change(lab)
    check_taken(lab, lab.commit(reason="two words").generation)


def test_an_image_whose_name_holds_layer_does_not_spoil_a_save(lab: Lab) -> None:
    (lab.places.persist / "modules-6.1-player.squashfs").write_text("modules")
    (lab.places.persist / "modules-6.2.squashfs").write_text("modules")
    change(lab)
    check_taken(lab, lab.commit().generation)


@pytest.mark.parametrize("junk", [999_999, 999_999_999])
def test_junk_with_a_high_number_does_not_end_all_saves(lab: Lab, junk: int) -> None:
    change(lab)
    first = lab.commit().generation
    path = lab.places.persist / f"upperfs/generations/{junk}"
    path.write_text("junk\n")
    change(lab)
    second = lab.commit().generation
    assert second > first
    check_taken(lab, second)
    assert path.read_text() == "junk\n"
    assert [g.number for g in list_generations(lab.places.persist)] == [first, second]
    lab.boot()
    assert (lab.places.root / "new").read_text() == "more\nmore\n"
    change(lab)
    check_taken(lab, lab.commit().generation)
