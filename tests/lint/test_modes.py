"""The modes of a boot: the menu, the initramfs and Python know the same, by the same words."""

import re
from pathlib import Path

import pytest

from ramos.booted import Mode, parse_boot
from ramos.vm.machine import HOTKEYS
from tests.lint.rules import REPOSITORY

VERBS = REPOSITORY / "initramfs-hooks/lib"
MENU = REPOSITORY / "grub/grub.cfg"
READERS = [
    p for p in sorted(VERBS.glob("*.sh")) if re.search(r"\bMODE\b|ASKED_MODE", p.read_text())
]
MODES = {str(mode) for mode in Mode}


def test_the_initramfs_takes_each_mode_and_no_other() -> None:
    allowed = re.findall(r"ramos\.mode=(\w+)", (VERBS / "20-parameters.sh").read_text())
    assert sorted(allowed) == sorted(MODES)


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.name)
def test_the_initramfs_compares_with_modes_alone(path: Path) -> None:
    text = path.read_text()
    words = set(re.findall(r'"\$(?:ASKED_)?MODE(?::\$\w+)?" !?= "?(\w+)', text))
    words |= set(re.findall(r"\b(?:ASKED_)?MODE=(\w+)", text))
    for arms in re.findall(r"case \$(?:ASKED_)?MODE\b.*? in\n(.*?)\n +esac", text, re.S):
        words |= set(re.findall(r"^ +(\w+)(?::\S*)?\)", arms, re.M))
    assert words <= MODES


def test_every_entry_of_the_menu_starts_a_mode() -> None:
    text = MENU.read_text()
    started = re.findall(r'^ +start(?:_any| "\$\w+") (\w+)', text, re.M)
    assert set(started) == MODES
    entries = re.findall(r"^menuentry [^\n]*--hotkey (\d) \{.*?start_any (\w+)", text, re.M | re.S)
    assert {mode: key for key, mode in reversed(entries)} == {mode: HOTKEYS[mode] for mode in Mode}


@pytest.mark.parametrize("mode", Mode)
def test_what_the_initramfs_leaves_is_read(mode: Mode) -> None:
    boot = parse_boot(f"mode={mode}\nasked_mode=backup\n")
    assert (boot.mode, boot.asked_mode) == (mode, Mode.BACKUP)
    assert parse_boot(f"mode={mode}\n").asked_mode is mode


def test_a_mode_that_nobody_knows_saves_nothing() -> None:
    assert parse_boot("mode=Default\n").mode is Mode.CLEAN
    assert parse_boot("generation=1\n").mode is Mode.DEFAULT
