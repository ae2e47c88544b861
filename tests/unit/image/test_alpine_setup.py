"""What is set up the Alpine way, and how mirrors and releases are named."""

from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.image import alpine_setup, alpine_source, mirror
from ramos.image.plan import Plan
from tests.conftest import REPOSITORY


def test_terminals_of_inittab() -> None:
    plan = Plan(consoles=("tty0", "ttyS1,9600n8", "ttyUSB0"), autologin="no")
    lines = alpine_setup.render_inittab(plan).splitlines()
    assert "tty1::respawn:/sbin/getty 38400 tty1" in lines
    serial = [line for line in lines if line.startswith(("ttyS1::", "ttyUSB0::"))]
    assert "exec /sbin/getty -L 9600 ttyS1 vt100" in serial[0]
    assert "exec /sbin/getty -L 115200 ttyUSB0 vt100" in serial[1]
    # A port that is not there must not make init start a getty once a second.
    assert all("sleep" in line for line in serial)
    assert not [line for line in lines if line.startswith("tty0")]


def test_the_first_consoles_log_in_by_themselves(tmp_path: Path) -> None:
    plan = Plan(base="alpine", consoles=("tty0", "ttyS0"), user="ann")
    alpine_setup.configure(plan, tmp_path)
    lines = (tmp_path / "etc/inittab").read_text().splitlines()
    getty = "/sbin/getty -n -l /etc/ramos/autologin"
    assert f"tty1::respawn:{getty} 38400 tty1" in lines
    assert "tty2::respawn:/sbin/getty 38400 tty2" in lines
    assert [line for line in lines if f"exec {getty} -L 115200 ttyS0 vt100" in line]
    script = tmp_path / "etc/ramos/autologin"
    assert script.stat().st_mode & 0o777 == 0o755
    assert script.read_text().endswith("\nexec /bin/login -f ann\n")


def test_with_a_password_every_console_asks(tmp_path: Path) -> None:
    alpine_setup.configure(Plan(base="alpine", password_hash="$6$a$b"), tmp_path)
    assert "autologin" not in (tmp_path / "etc/inittab").read_text()
    assert not (tmp_path / "etc/ramos/autologin").exists()


def test_services_are_switched_on_only_when_they_are_there(tmp_path: Path) -> None:
    # OpenRC's loadkmap fails to stop, with a keymap and without: the initramfs loads it.
    for name in ("udev", "mount-ro", "loadkmap"):
        (tmp_path / "etc/init.d").mkdir(parents=True, exist_ok=True)
        (tmp_path / "etc/init.d" / name).touch()
    plan = Plan(base="alpine", output=tmp_path / "x.img", cache=tmp_path)
    alpine_setup.configure(plan, tmp_path)
    hook = tmp_path / "etc/apk/commit_hooks.d/ramos"
    assert (REPOSITORY / hook.readlink().relative_to("/usr/share/ramos")).stat().st_mode & 0o111
    links = {str(p.relative_to(tmp_path)) for p in tmp_path.glob("etc/runlevels/*/*")}
    assert links == {"etc/runlevels/sysinit/udev", "etc/runlevels/shutdown/mount-ro"}


def test_keyboard_layouts(tmp_path: Path) -> None:
    layout = tmp_path / "usr/share/bkeymaps/de/de.bmap.gz"
    layout.parent.mkdir(parents=True)
    layout.write_bytes(b"map")
    alpine_setup.set_keymap(tmp_path, "de")
    assert (tmp_path / "etc/keymap/de.bmap.gz").read_bytes() == b"map"
    assert "KEYMAP=/etc/keymap/de.bmap.gz" in (tmp_path / "etc/conf.d/loadkmap").read_text()
    alpine_setup.set_keymap(tmp_path / "empty", "us")
    with pytest.raises(RamosError, match="unknown keyboard layout: xx"):
        alpine_setup.set_keymap(tmp_path, "xx")


@pytest.mark.parametrize(
    ("release", "branch"),
    [("", "latest-stable"), ("3.23", "v3.23"), ("v3.23", "v3.23"), ("edge", "edge")],
)
def test_branches(release: str, branch: str) -> None:
    assert alpine_source.name_branch(release) == branch


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://mirror.example/alpine/", "https://mirror.example/alpine"),
        ("file:///srv/alpine", "/srv/alpine"),
        ("/srv/alpine/", "/srv/alpine"),
    ],
)
def test_mirrors_in_one_form(given: str, used: str) -> None:
    assert mirror.normalize(given) == used


def test_initramfs_of_mkinitfs_is_ours() -> None:
    assert "disable_trigger=yes\n" in alpine_setup.MKINITFS_CONF
    for name in ("init", "features.d/ramos.files", "features.d/ramos.modules"):
        folder = Path(__file__).resolve().parents[3] / "initramfs-hooks/mkinitfs"
        assert (folder / name).is_file()
    assert f'init="{alpine_setup.HOOKS}/mkinitfs/init"' in alpine_setup.MKINITFS_CONF
