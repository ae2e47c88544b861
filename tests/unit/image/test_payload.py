"""The services of RAMOS, as they are put into a root tree."""

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
