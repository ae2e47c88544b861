"""The adapter for Alpine's mkinitfs: the same drivers and files as our own builder's."""

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import initramfs
from tests.conftest import REPOSITORY
from tests.labs.harness import SHELLS

HOOKS = REPOSITORY / "initramfs-hooks"
LISTS = {
    "screen": initramfs.SCREEN_MODULES,
    "base": initramfs.BASE_MODULES,
    "storage": initramfs.STORAGE_MODULES,
    "upper": initramfs.UPPER_MODULES,
    "luks": initramfs.LUKS_MODULES,
    "watchdog": initramfs.WATCHDOG_MODULES,
    "keyboard": initramfs.KEYBOARD_MODULES,
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_modules_are_those_of_the_builder(name: str) -> None:
    text = (HOOKS / f"mkinitfs/modules.{name}").read_text()
    assert text.split() == LISTS[name].split()
    assert text.count("\n") == 1


def test_every_tool_of_the_boot_is_a_feature_file() -> None:
    lines = (HOOKS / "mkinitfs/features.d/ramos.files").read_text().split("\n")
    names = {line.rpartition("/")[2] for line in lines}
    assert {tool.name for tool in initramfs.TOOLS} <= names


@pytest.mark.parametrize("shell", SHELLS)
def test_files_are_put_where_init_looks(shell: str, tmp_path: Path) -> None:
    share = tmp_path / "usr/share/ramos/initramfs-hooks"
    shutil.copytree(HOOKS, share)
    environment = tmp_path / "usr/lib/ramos/ramos/layout.env"
    environment.parent.mkdir(parents=True)
    shutil.copy(layout.ENV_FILE, environment)
    (tmp_path / "etc/keymap").mkdir(parents=True)
    (tmp_path / "etc/keymap/de.bmap.gz").write_bytes(gzip.compress(b"bkeymap"))
    script = '. "$1/usr/share/ramos/initramfs-hooks/mkinitfs/place.sh"; place_files "$1"'
    subprocess.run([*SHELLS[shell], "-euc", script, "sh", tmp_path], check=True)
    library = tmp_path / "lib/ramos"
    expected = {path.name for path in (HOOKS / "lib").iterdir()}
    expected |= {"layout.env", "keymap.bmap", *(f"modules.{name}" for name in LISTS)}
    assert {path.name for path in library.iterdir()} == expected
    for path in library.iterdir():
        if path.is_symlink():
            assert (tmp_path / str(path.readlink()).lstrip("/")).is_file()
    assert (library / "keymap.bmap").read_bytes() == b"bkeymap"
    assert "usb_storage" in (tmp_path / "etc/modprobe.d/ramos.conf").read_text()


def test_init_and_all_that_it_reads_is_in_the_list() -> None:
    lines = (HOOKS / "mkinitfs/features.d/ramos.files").read_text().split("\n")
    ours = {line.removeprefix("/usr/share/ramos/initramfs-hooks/") for line in lines}
    assert {"init", "lib", "mkinitfs", "/usr/lib/ramos/ramos/layout.env", "/bin/sh"} <= ours
    # They lie in one or the other, by the release of Alpine.
    for tool in ("e2fsck", "mkfs.btrfs", "cryptsetup"):
        assert {f"/sbin/{tool}", f"/usr/sbin/{tool}"} <= set(lines)
