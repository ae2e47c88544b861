"""The one user of a stick: who may log in, who becomes root, and what else stays as it was."""

import os
import stat
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.image.common_setup import USER_ID, add_user


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    etc = tmp_path / "etc"
    (etc / "sudoers.d").mkdir(parents=True)
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\nsudo:x:27:\naudio:x:29:pulse\nkvm:x:30:\n")
    (etc / "shadow").write_text("root:*:1:0:99999:7:::\nbin:*:1:0:99999:7:::\n")
    (etc / "shadow").chmod(0o640)
    return tmp_path


@pytest.mark.parametrize(
    ("password", "rule"), [("", "NOPASSWD: ALL"), ("$6$salt$hash", "(ALL:ALL) ALL")]
)
def test_a_user_may_become_root_who_is_locked(tree: Path, password: str, rule: str) -> None:
    add_user(tree, "ann", password)
    shadow = (tree / "etc/shadow").read_text().splitlines()
    assert shadow[0] == "root:!:1:0:99999:7:::"
    assert shadow[1] == "bin:*:1:0:99999:7:::"
    assert shadow[2].startswith(f"ann:{password}:")
    assert stat.S_IMODE((tree / "etc/shadow").stat().st_mode) == 0o640
    assert (tree / "etc/group").read_text().splitlines()[:4] == [
        *("root:x:0:", "sudo:x:27:ann", "audio:x:29:pulse,ann", "kvm:x:30:"),
    ]
    sudoers = tree / "etc/sudoers.d/ramos"
    assert sudoers.read_text().strip().endswith(rule)
    assert stat.S_IMODE(sudoers.stat().st_mode) == 0o440


def test_a_name_that_the_image_has_is_refused(tree: Path) -> None:
    with pytest.raises(RamosError, match="has it already"):
        add_user(tree, "root", "")


def test_a_user_has_a_home_that_is_the_users_alone(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[Path, tuple[int, int]] = {}
    monkeypatch.setattr(os, "chown", lambda path, *ids: given.update({path: ids}))
    (tree / "etc/skel").mkdir()
    (tree / "etc/skel/.profile").write_text("umask 027\n")
    add_user(tree, "ann", "")
    home = tree / "home/ann"
    assert (home / ".profile").read_text() == "umask 027\n"
    assert given[home] == given[home / ".profile"] == (USER_ID, USER_ID)
    assert stat.S_IMODE(home.stat().st_mode) & 0o027 == 0
