"""ACLs and users who lead them astray: what root puts back at a boot goes where it was saved."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ramos.config import SaveConfig
from ramos.layers.bootacls import restore_acls
from ramos.layers.layer import publish_sidecar
from ramos.save import compact
from ramos.save.exchange import restore_file
from ramos.store.generation import Generation
from ramos.store.generations import publish_generation, read_default
from tests.labs.lab import Lab
from tests.labs.tree import ACL

ACCESS = "system.posix_acl_access"
USER = 1000


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    made = Lab(tmp_path).make()
    shadow = made.places.run / "rootfs/etc/shadow"
    shadow.write_text("root:secret\n")
    shadow.chmod(0o600)
    home = made.places.run / "rootfs/home/user"
    home.mkdir(parents=True)
    os.chown(home, USER, USER)
    return made.boot_first()


def give(*paths: Path) -> None:
    """To the user, links themselves."""
    for path in paths:
        os.chown(path, USER, USER, follow_symlinks=False)


def read_acl(path: Path) -> bytes:
    try:
        return os.getxattr(path, ACCESS, follow_symlinks=False)
    except OSError:
        return b""


def default(lab: Lab) -> Generation:
    found = read_default(lab.places.persist)
    assert found is not None
    return found


def make_file_with_acl(home: Path, name: str = "shadow") -> None:
    (home / "d").mkdir(exist_ok=True)
    (home / "d" / name).write_text("mine")
    give(home / "d", home / "d" / name)
    os.setxattr(home / "d" / name, ACCESS, ACL)


def save_an_acl_and_a_link(lab: Lab) -> None:
    """What a user does who wants to read /etc/shadow."""
    home = lab.places.root / "home/user"
    make_file_with_acl(home)
    lab.commit()
    (home / "d/shadow").unlink()
    (home / "d").rmdir()
    (home / "d").symlink_to("../../etc")
    give(home / "d")
    lab.commit()


@pytest.mark.parametrize("restore", ["mount", "unpack"])
def test_hostile_link_saved_in_place_of_a_directory(lab: Lab, restore: str) -> None:
    save_an_acl_and_a_link(lab)
    lab.restore = restore
    lab.boot()
    assert (lab.places.root / "home/user/d").is_symlink()
    assert not read_acl(lab.places.root / "etc/shadow")


def test_hostile_link_and_a_restored_or_merged_tree(lab: Lab) -> None:
    save_an_acl_and_a_link(lab)
    restore_file(lab.places, default(lab), b"/etc", lab.top / "etc")
    assert not read_acl(lab.top / "etc/shadow")
    config = SaveConfig(reserve_mib=1)
    compact.compact(lab.places, config, everything=True, on_progress=lambda *_: None)
    assert not [file for file in default(lab).saved if file.kind == "acl"]
    lab.boot()
    assert not read_acl(lab.places.root / "etc/shadow")


def test_hostile_link_made_before_the_acls_are_put_back(lab: Lab) -> None:
    home = lab.places.root / "home/user"
    make_file_with_acl(home)
    lab.commit()
    lab.boot()
    assert read_acl(home / "d/shadow") == ACL
    os.removexattr(home / "d/shadow", ACCESS)
    (home / "d/shadow").rename(home / "shadow")
    (home / "d").rmdir()
    (home / "d").symlink_to("../../etc")
    count, problems = restore_acls(default(lab), lab.places)
    assert (count, problems) == (0, ["'home/user/d/shadow': Not a directory"])
    assert not read_acl(lab.places.root / "etc/shadow")


@pytest.mark.parametrize("other", ["owner", "type"])
def test_hostile_entry_in_the_place_of_the_saved_one_is_skipped_with_a_word(
    lab: Lab, other: str
) -> None:
    target = lab.places.root / "home/user/d/shadow"
    make_file_with_acl(lab.places.root / "home/user")
    lab.commit()
    lab.boot()
    target.unlink()
    if other == "owner":
        target.write_text("root's")
    else:
        target.mkdir()
        give(target)
    count, problems = restore_acls(default(lab), lab.places)
    word = "skipped: its type or owner is not what was saved"
    assert (count, problems) == (0, [f"'home/user/d/shadow': {word}"])
    assert not read_acl(target)


def rewrite_sidecar(lab: Lab, change: Callable[[str], str]) -> Generation:
    """The default with another sidecar, as if it had been saved so."""
    found = default(lab)
    files = []
    for file in found.files:
        if file.kind == "acl":
            data = change((lab.places.persist / file.path).read_text()).encode()
            file = publish_sidecar(lab.places.persist, data)
        files.append(file)
    made = replace(found, number=found.number + 1, parent=found.number, files=tuple(files))
    publish_generation(lab.places.persist, made)
    return made


def test_sidecars_of_older_systems_are_put_back_but_lead_nowhere_else(lab: Lab) -> None:
    home = lab.places.root / "home/user"
    make_file_with_acl(home)
    lab.commit()
    older = re.compile(r"^(access|default) f \d+:\d+ (.*)$", re.MULTILINE)
    made = rewrite_sidecar(lab, lambda text: older.sub(r"\1 \2", text))
    sidecar = next(file for file in made.saved if file.kind == "acl")
    assert (lab.places.persist / sidecar.path).read_text().count(" ") == 2
    lab.boot()
    assert read_acl(home / "d/shadow") == ACL
    (home / "d/shadow").unlink()
    (home / "d/shadow").write_text("root's")
    assert restore_acls(made, lab.places)[0] == 0
    assert not read_acl(home / "d/shadow")


def test_hostile_sidecar_that_names_what_its_layer_has_not(lab: Lab) -> None:
    make_file_with_acl(lab.places.root / "home/user")
    lab.commit()
    lab.boot()
    made = rewrite_sidecar(lab, lambda text: text.replace("home/user/d/shadow", "etc/shadow"))
    count, problems = restore_acls(made, lab.places)
    assert (count, problems) == (0, ["'etc/shadow': its layer has nothing like it"])
    assert not read_acl(lab.places.root / "etc/shadow")


@pytest.mark.parametrize("restore", ["mount", "unpack"])
def test_names_of_one_file_with_an_acl_stay_one_file(lab: Lab, restore: str) -> None:
    home = lab.places.root / "home/user"
    make_file_with_acl(home)
    for name in ("one", "d/two", "three"):
        os.link(home / "d/shadow", home / name)
    lab.commit()
    (home / "three").unlink()
    (home / "three").write_text("of its own")
    lab.commit()
    lab.restore = restore
    before = (home / "d").stat().st_mtime_ns
    for _ in range(2):
        lab.boot()
        names = [home / name for name in ("d/shadow", "one", "d/two")]
        assert len({path.stat().st_ino for path in names}) == 1
        assert {path.stat().st_nlink for path in names} == {3}
        assert {read_acl(path) for path in names} == {ACL}
        assert (home / "three").read_text() == "of its own"
        assert sorted(os.listdir(home / "d")) == ["shadow", "two"]
        assert (home / "d").stat().st_mtime_ns // 10**9 == before // 10**9
        (home / "one").write_text("changed")
        assert (home / "d/two").read_text() == "changed"
        lab.commit()
