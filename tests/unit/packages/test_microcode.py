"""Microcode as the packages of each base have it, and the archive that the kernel wants."""

from pathlib import Path

from ramos.packages.build import find_microcode

INTEL, AMD = b"GenuineIntel.bin", b"AuthenticAMD.bin"


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_alpine_has_it_ready_and_it_ends_at_a_word(tmp_path: Path) -> None:
    write(tmp_path / "boot/amd-ucode.img", b"seven b")
    # Of linux-firmware-amd-ucode: the same once more, for whoever makes an archive of it.
    write(tmp_path / "lib/firmware/amd-ucode/microcode_amd.bin", b"loose")
    assert find_microcode("alpine", tmp_path) == {"amd-ucode": b"seven b\0"}
    assert find_microcode("alpine", tmp_path / "boot") == {}


def test_debian_has_files_that_are_put_together(tmp_path: Path) -> None:
    firmware = tmp_path / "usr/lib/firmware"
    (tmp_path / "lib").symlink_to("usr/lib")
    write(firmware / "intel-ucode/06-0d-06", b"one ")
    write(firmware / "intel-ucode/06-0e-01", b"two")
    write(firmware / "amd-ucode/microcode_amd.bin", b"three")
    write(firmware / "amd-ucode/microcode_amd.bin.asc", b"signature")
    write(firmware / "other.bin", b"other")
    found = find_microcode("debian", tmp_path)
    assert list(found) == ["amd64-microcode", "intel-microcode"]
    amd, intel = found["amd64-microcode"], found["intel-microcode"]
    assert [name in intel for name in (INTEL, b"one two", AMD)] == [True, True, False]
    assert [name in amd for name in (AMD, b"three", INTEL)] == [True, True, False]
    assert b"signature" not in amd + intel
    assert len(amd) % 4 == len(intel) % 4 == 0
