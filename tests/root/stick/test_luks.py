"""LUKS2 in an image file, with the real cryptsetup: no device-mapper, no secret in sight."""

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ramos.cli.key import key
from ramos.errors import RamosError, UsageError
from ramos.stick import luks

OLD = b"correct horse"
NEW = "bättery stäple".encode()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encrypted ext4 with a recognisable text in it."""
    folder = tmp_path_factory.mktemp("luks")
    (folder / "tree").mkdir()
    (folder / "tree" / "file").write_text("plain text that must not be seen\n" * 500)
    image = folder / "persist"
    with image.open("wb") as stream:
        stream.truncate(luks.HEADER_BYTES + (16 << 20))
    argv = ["mke2fs", "-q", "-t", "ext4", "-d", str(folder / "tree"), str(image), "16m"]
    subprocess.run(argv, check=True)
    luks.encrypt_file(image, OLD)
    return image


@pytest.fixture
def device(made: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "persist"
    copy.write_bytes(made.read_bytes())
    return copy


def test_the_file_is_encrypted_with_costs_for_a_weak_machine(device: Path) -> None:
    assert luks.is_encrypted(device)
    assert b"must not be seen" not in device.read_bytes()
    (slot,) = luks.list_keys(device)
    assert (slot.derivation, slot.memory_kib) == ("argon2id", 64 << 10)
    assert luks.opens(device, OLD)
    assert not luks.opens(device, b"wrong")


def test_keys_come_and_go_but_the_last_one_stays(device: Path) -> None:
    luks.add_key(device, OLD, NEW)
    assert len(luks.list_keys(device)) == 2
    luks.remove_key(device, OLD)
    assert not luks.opens(device, OLD)
    with pytest.raises(RamosError, match="the last one"):
        luks.remove_key(device, NEW)
    luks.change_key(device, NEW, OLD)
    assert luks.opens(device, OLD)
    assert not luks.opens(device, NEW)


def test_a_wrong_passphrase_changes_nothing(device: Path) -> None:
    before = luks.list_keys(device)
    for call in (luks.add_key, luks.change_key):
        with pytest.raises(RamosError, match="no key is available"):
            call(device, b"wrong", NEW)
    assert luks.list_keys(device) == before


def test_the_header_can_be_kept(device: Path, tmp_path: Path) -> None:
    backup = tmp_path / "header"
    luks.backup_header(device, backup)
    assert luks.opens(backup, OLD)
    with pytest.raises(UsageError, match="it exists"):
        luks.backup_header(device, backup)


@pytest.mark.parametrize("bad", [b"", b"a\nb", b"a\0b", b"x" * 513])
def test_a_passphrase_that_cannot_be_typed_is_refused(bad: bytes) -> None:
    with pytest.raises(UsageError, match="cannot use passphrase"):
        luks.check_passphrase(bad)


def test_a_passphrase_file_may_end_in_a_line_break(tmp_path: Path) -> None:
    file = tmp_path / "pw"
    file.write_bytes(OLD + b"\n")
    assert luks.read_passphrase_file(file) == OLD
    with pytest.raises(UsageError, match="cannot read passphrase"):
        luks.read_passphrase_file(tmp_path / "absent")


def call(*words: object, typed: str = "") -> Result:
    return CliRunner().invoke(key, [str(word) for word in words], input=typed)


def test_keys_from_the_command_line(device: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(OLD)
    new.write_bytes(NEW + b"\n")
    options = ("--device", device, "--passphrase-file", old)
    assert "2 keys" in call("add", *options, "--new-passphrase-file", new).output
    assert len(json.loads(call("list", "--device", device, "--json").output)["keys"]) == 2
    assert call("change", *options, typed="third\nthird\n").exit_code == 0
    assert luks.opens(device, b"third")
    assert not luks.opens(device, OLD)
    # What is asked goes elsewhere: on standard output is one object.
    asked = call("remove", "--device", device, "--json", typed="third\n")
    told = json.loads(asked.stdout)
    assert (told["schema"], told["device"], told["keys"]) == (1, str(device), 1)
    header = tmp_path / "header"
    kept = json.loads(call("backup", "--device", device, "--json", header).stdout)
    assert kept["header"] == str(header)
    assert header.stat().st_size > 0


def test_a_mistyped_new_passphrase_changes_nothing(device: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(OLD)
    for typed in ("one\ntwo\n", "\n\n"):
        done = call("change", "--device", device, "--passphrase-file", old, typed=typed)
        assert isinstance(done.exception, UsageError)
    assert luks.opens(device, OLD)


def test_what_is_not_encrypted_has_no_keys(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(bytes(4096))
    assert "not encrypted" in str(call("list", "--device", plain).exception)
