"""RAMOS as it is put into a root tree: its services, and where a user changes it."""

import os
import subprocess
from pathlib import Path

import pytest

from ramos import layout
from ramos.image import common_setup, payload


@pytest.mark.parametrize(
    ("comment", "level"), [("# runlevel: shutdown\n", "shutdown"), ("# of its own\n", "default")]
)
def test_a_service_of_openrc_is_switched_on(tmp_path: Path, comment: str, level: str) -> None:
    source = tmp_path / "usr/share/ramos/services/openrc"
    source.mkdir(parents=True)
    (source / "ramos-here").write_text(f"#!/sbin/openrc-run\n{comment}")
    payload.install_services("openrc", "openrc", tmp_path)
    link = tmp_path / "etc/runlevels" / level / "ramos-here"
    assert str(link.readlink()) == "/etc/init.d/ramos-here"
    assert (tmp_path / "etc/init.d/ramos-here").stat().st_mode & 0o777 == 0o755


def test_a_user_finds_the_settings_and_folders_for_files_of_ones_own(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        payload.install_config(tmp_path)
    finally:
        os.umask(before)
    settings = tmp_path / "etc/ramos/ramos.toml"
    assert settings.read_text().startswith("# Settings of RAMOS")
    assert settings.stat().st_mode & 0o777 == 0o644
    for name in ("conf.d", "recipes.d"):
        assert (settings.parent / name).stat().st_mode & 0o777 == 0o755


# As chroot would: the program of the tree finds the manuals of the tree.
CHROOT = """\
#!/bin/sh
exec "$1$2" "$1$3"
"""


def test_the_manuals_are_found_by_what_they_are_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, manuals = tmp_path / "tree", tmp_path / "tree" / payload.MANUALS_DIR
    for place, path in payload.list_sources():
        if place.startswith(payload.MANUALS_DIR):
            common_setup.write_file(tree / place.removesuffix(".gz"), path.read_bytes())
    chroot = tmp_path / "bin/chroot"
    common_setup.write_file(chroot, CHROOT, 0o755)
    monkeypatch.setenv("PATH", f"{chroot.parent}:{os.environ['PATH']}")
    payload.index_manuals(0, tree)
    assert not (manuals / "mandoc.db").exists(), "there is no program for it"
    indexer = tree / "usr/sbin/makewhatis"
    indexer.parent.mkdir()
    indexer.symlink_to("/usr/sbin/makewhatis")
    payload.index_manuals(0, tree)
    argv = ["mapropos", "-M", str(manuals), "ramos"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    pages = {path.name for path in layout.find_data("man").iterdir()}
    assert {f"{line.split('(')[0]}.{line.split('(')[1][0]}" for line in shown.splitlines()} == pages
