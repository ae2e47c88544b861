"""GRUB as an image holds it: made for each platform, and told where it lies."""

import struct
from pathlib import Path

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
