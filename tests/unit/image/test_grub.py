"""GRUB as an image holds it: made for each platform, and told where it lies."""

import struct
from pathlib import Path

import pytest

from ramos.boot import menu
from ramos.image import grub


def test_grub_for_bios_says_where_it_goes_on(tmp_path: Path) -> None:
    early = tmp_path / "early.cfg"
    early.write_text(menu.render_early(grub.read_template(menu.EARLY_TEMPLATE)))
    made = grub.make_bios(tmp_path, early, 1 << 20)
    assert len(made.boot_code) == grub.BOOT_CODE_BYTES
    start = 2048  # in sectors: 1 MiB
    assert struct.unpack_from("<Q", made.boot_code, grub.BOOT_KERNEL_SECTOR) == (start,)
    assert len(made.core) % 512 == 0
    # As diskboot.S of GRUB has it: the last 12 bytes of its sector are the first of its lists.
    first, count, segment = struct.unpack_from("<QHH", made.core, 512 - 12)
    assert (first, count, segment) == (start + 1, len(made.core) // 512 - 1, 0x820)


def test_grub_for_uefi_is_one_program_that_looks_for_the_menu(tmp_path: Path) -> None:
    early = tmp_path / "early.cfg"
    early.write_text(menu.render_early(grub.read_template(menu.EARLY_TEMPLATE)))
    grub.make_efi(tmp_path / "grub.efi", early)
    made = (tmp_path / "grub.efi").read_bytes()
    assert made[:2] == b"MZ"
    assert menu.PREFIX.encode() in made


def test_what_this_machine_lacks_is_named_by_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grub, "GRUB_DIR", tmp_path)
    (tmp_path / "x86_64-efi").mkdir()
    assert grub.list_missing_platforms() == ["grub-pc-bin"]
