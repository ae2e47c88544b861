"""RAMOS as it is put into a root tree: its services, and where a user changes it."""

import os
from pathlib import Path

import pytest

from ramos.image import payload


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
