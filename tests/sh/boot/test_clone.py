"""What init notes to tell the stick from a clone of it."""

import hashlib
from pathlib import Path

import pytest

from tests.labs.harness import PERSIST_UUID, SHELLS, Machine, luks_header, superblock

LUKS_UUID = "11111111-2222-3333-4444-555555555555"


def read_proof(machine: Machine, number: int) -> str:
    data = (machine.root / f"persist/upperfs/generations/{number:06d}").read_bytes()
    return hashlib.sha256(data.rpartition(b"end=")[0]).hexdigest()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("mode", ["default", "backup", "clean"])
def test_clone_proof_is_the_end_of_what_was_read(machine: Machine, shell: str, mode: str) -> None:
    machine.write("sys/devices/sda/diskseq", "17\n")
    report = machine.boot(shell, f"ramos.mode={mode}")
    number = 2 if mode == "backup" else 3
    assert report["proof_number"] == str(number)
    assert report["proof_end"] == read_proof(machine, number)
    assert report["disk_sequence"] == "17"
    assert report["luks_uuid"] == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_clone_proof_of_a_generation_that_was_stepped_down_to(machine: Machine, shell: str) -> None:
    layer = next((machine.root / "persist/upperfs/layers").iterdir())
    layer.write_text("other content")
    report = machine.boot(shell)
    assert report["generation"] != "3"
    assert report["proof_end"] == read_proof(machine, int(report["proof_number"]))
    assert report["disk_sequence"] == "0"


@pytest.mark.parametrize("shell", SHELLS)
def test_clone_of_an_encrypted_stick_has_the_uuid_around_it(tmp_path: Path, shell: str) -> None:
    machine = Machine(tmp_path / "m")
    machine.add_stick(luks_header(LUKS_UUID, "ramos-persist"))
    machine.write("passphrase", "x")
    machine.write("answers", "x\n")
    machine.write("dev/mapper/ramos-persist", superblock())
    report = machine.boot(shell)
    assert (report["luks_uuid"], report["persist_uuid"]) == (LUKS_UUID, PERSIST_UUID)
