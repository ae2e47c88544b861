"""A persist that is encrypted: what opens it, and what is taken for it."""

from pathlib import Path

import pytest

from tests.labs.harness import PERSIST_UUID, Machine, luks_header, superblock


@pytest.mark.parametrize(
    ("typed", "opens"), [("secret\n", True), ("no\nno\nsecret\n", True), ("a\nb\nc\nd\n", False)]
)
def test_encrypted_persist(tmp_path: Path, shell: str, typed: str, opens: bool) -> None:
    uuid = "6f1c2d3e-1111-4222-8333-944455566677"
    machine = Machine(tmp_path / "m")
    machine.add_stick(luks_header(uuid))
    machine.add_history()
    machine.write("passphrase", "secret")
    machine.write("dev/mapper/ramos-persist", superblock())
    machine.write("answers", typed)
    report = machine.boot(shell, f"ramos.luks=UUID={uuid}")
    if opens:
        assert report["luks"] == "1"
        assert report["persist_uuid"] == "0a1b2c3d-0e0f-4a4b-8c8d-00aa11bb22cc"
        assert report["generation"] == "3"
    else:
        assert report["shell"].startswith("unlock: ")
        assert "could not be unlocked in 3 tries" in report["shell"]
    assert "secret" not in machine.read("run/ramos/boot.log")


def test_an_unencrypted_twin_is_not_taken_for_the_encrypted_persist(
    tmp_path: Path, shell: str
) -> None:
    """The UUID of an encrypted partition is no secret: another disk can bear it."""
    uuid = "6f1c2d3e-1111-4222-8333-944455566677"
    machine = Machine(tmp_path / "m")
    machine.add_disk("nvme0n1", {"nvme0n1p1": superblock(uuid=uuid)})
    machine.add_stick(luks_header(uuid))
    machine.add_history()
    machine.write("passphrase", "secret")
    machine.write("dev/mapper/ramos-persist", superblock())
    machine.write("answers", "secret\n")
    report = machine.boot(shell, f"ramos.luks=UUID={uuid}")
    assert (report["luks"], report["persist_uuid"]) == ("1", PERSIST_UUID)
