"""The boot menu: grub.cfg and GRUB's early configuration as text.

Owns: what is filled into the templates of grub/, which GRUB modules an image needs, and the rules
for words that may stand there. Refuses: files (template text in, text out). Invariants: the menu
is written once; no value can break out of its place in GRUB's language.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ramos import layout
from ramos.errors import UsageError

MENU_TEMPLATE = "grub.cfg"
EARLY_TEMPLATE = "early.cfg"
PREFIX = "/grub"
SERIAL_CONSOLE = "ttyS0,115200"
# For a machine that `ramos vm` starts. An emulator on a busy host is late with its timer, and the
# kernel, which checks it, would panic. And it translates a program anew for each address that it
# is started at; it then needs minutes to write over such a page, as GRUB does after a restart.
SERIAL_WORDS = f"console=tty0 console={SERIAL_CONSOLE} no_timer_check norandmaps"
# `ramos vm` gives its machine this product name: the kernel's last console then is the serial one.
SERIAL_PRODUCT = "ramos-vm-serial"

WORDS = """
    normal configfile part_gpt part_msdos fat search search_fs_file regexp test true
    echo loadenv hashsum gcry_sha256 linux boot serial terminal smbios sleep minicmd ls cat reboot
    halt font gfxterm gfxmenu png
"""
COMMON_MODULES = tuple(WORDS.split())
# GRUB's name of a platform -> the modules of its image. Screens by their firmware alone: a VGA that
# answers to its ports and to nothing else would take seconds to draw the menu.
MODULES = {
    "x86_64-efi": (*COMMON_MODULES, "efi_gop", "efi_uga"),
    "i386-pc": (*COMMON_MODULES, "biosdisk", "vbe"),
}

WORD_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:=/@%+~-]*")
FIELD_PATTERN = re.compile(r"@([A-Z_]+)@")


@dataclass(frozen=True)
class Menu:
    """What differs from stick to stick."""

    persist: str
    # The screen belongs to the boot: no line of the kernel's but the worst, and no cursor. The boot
    # gives the cursor back before the system starts.
    parameters: tuple[str, ...] = ("psi=1", "quiet", "loglevel=3", "vt.global_cursor_default=0")
    console: tuple[str, ...] = (SERIAL_CONSOLE, "tty0")
    timeout_seconds: int = 3


def render_menu(template: str, menu: Menu) -> str:
    """grub.cfg. `persist` is what ramos.persist= takes; the last console is /dev/console."""
    words = [f"ramos.persist={menu.persist}", *menu.parameters]
    return fill_template(
        template,
        {
            "KERNELS": f"/{layout.KERNELS_DIR}",
            "PARAMETERS": " ".join(_check_word(word) for word in words),
            "CONSOLE": " ".join(f"console={_check_word(word)}" for word in menu.console),
            "SERIAL": SERIAL_WORDS,
            "PRODUCT": SERIAL_PRODUCT,
            "TIMEOUT": str(int(menu.timeout_seconds)),
        },
    )


def render_early(template: str) -> str:
    """GRUB's embedded configuration: find the ESP on the disk that it was loaded from.

    No identity stands in it, so that each stick can have one of its own: the hints of the search
    are the partition that GRUB comes from (UEFI) and the partitions of its disk (BIOS).
    """
    return fill_template(template, {"PREFIX": PREFIX})


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Put values in place of @NAME@; each name of the template must have one."""
    missing = sorted(set(FIELD_PATTERN.findall(template)) - set(values))
    if missing:
        raise _bad_word(missing[0], "the template names it, but nothing gives its value")
    return FIELD_PATTERN.sub(lambda match: values[match[1]], template)


def _check_word(word: str) -> str:
    if WORD_PATTERN.fullmatch(word) is None:
        raise _bad_word(repr(word), "a kernel parameter is one word without quotes or spaces")
    return word


def _bad_word(word: str, reason: str) -> UsageError:
    return UsageError("cannot write the boot menu", word, reason)
