"""The engine's apk side: what it reads and writes around the real apk, which a script stands for.

The script only does what is asked of it here: it copies a file for `fetch` and notes the rest.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ramos.errors import RamosError
from ramos.formats.apk import verify_package
from ramos.formats.apk_index import read_index
from ramos.formats.apk_sign import make_key
from ramos.packages import alpine, repository
from ramos.packages.recipe import Recipe, find_recipe
from ramos.packages.recipes import load_recipes
from ramos.packages.site import Site
from tests.labs.alpine_mirror import ARCH, Mirror, Spec, add_package, list_toy_specs, make_mirror

APK = """#!/bin/sh
echo "$*" >>"{calls}"
while [ $# -gt 0 ]; do
    case $1 in
    -o) folder=$2 ;;
    linux-lts) cp {mirror}/v3.23/main/{arch}/"$1"-[0-9]*.apk "$folder" ;;
    esac
    shift
done
"""
DATABASE = """C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=
P:linux-lts
V:6.12.1-r0
F:boot
R:vmlinuz-lts
Z:Q1x
R:config-6.12.1-0-lts
Z:Q1y
F:lib/modules
F:lib/modules/6.12.1-0-lts
M:0:0:755
R:modules.dep
a:0:0:644
Z:Q1z

C:Q1BBBBBBBBBBBBBBBBBBBBBBBBBBB=
P:htop
V:3-r0
F:lib/modules/6.12.1-0-lts
R:odd

"""


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    specs = list_toy_specs()
    return make_mirror(tmp_path / "upstream", specs)


@pytest.fixture
def site(tmp_path: Path, mirror: Mirror) -> Site:
    root = tmp_path / "root"
    (root / "lib/apk/db").mkdir(parents=True)
    (root / "lib/apk/db/installed").write_text(DATABASE)
    (root / "etc/apk/keys").mkdir(parents=True)
    for key in mirror.keys.iterdir():
        (root / "etc/apk/keys" / key.name).write_bytes(key.read_bytes())
    (root / "etc/apk/arch").write_text(f"{ARCH}\n")
    (root / "etc/apk/world").write_text("linux-lts\nhtop\n")
    repository = mirror.folder().parent
    (root / "etc/apk/repositories").write_text(f"# ours\n{repository}\n@edge /nowhere\n")
    program = tmp_path / "apk"
    program.write_text(APK.format(calls=tmp_path / "calls", mirror=mirror.path, arch=ARCH))
    program.chmod(0o755)
    (tmp_path / "work").mkdir()
    key = tmp_path / "persist/packages/key/ramos-stick.rsa"
    make_key(key, 2048)

    @contextlib.contextmanager
    def open_esp(writable: bool) -> Iterator[Path]:
        del writable
        yield tmp_path

    return Site(
        manager=alpine,
        persist=tmp_path / "persist",
        work=tmp_path / "work",
        running="6.12.1-0-lts",
        open_esp=open_esp,
        root=root,
        recipes_dir=tmp_path / "recipes.d",
        apk=program,
    )


def recipe_for(name: str) -> Recipe:
    recipe = find_recipe(load_recipes(Path("/nowhere")).usable, name, "alpine")
    assert recipe is not None
    return recipe


def test_the_newest_kernel_is_fetched_taken_apart_and_published(site: Site, tmp_path: Path) -> None:
    found = alpine.find_candidates(site, ["linux-lts", "nothing"])
    assert list(found) == ["linux-lts"]
    assert alpine.find_candidates(site, ["linux-lts=6.12.40-r0"]) == found
    with pytest.raises(RamosError, match=r"the newest version only, which is 6\.12\.40-r0"):
        alpine.find_candidates(site, ["linux-lts=6.12.1-r0"])
    assert found["linux-lts"].version == "6.12.40-r0"
    assert alpine.is_newer(found["linux-lts"].version, "6.12.1-r0")
    path = alpine.fetch(site, found["linux-lts"], site.work / "one", print)
    staged = alpine.stage(site, path, recipe_for("linux-lts"))
    assert staged.kernels == ("6.12.40-0-lts",)
    assert (staged.places["kernel"] / "boot/vmlinuz-lts").read_bytes() == b"kernel"
    repository.bring(site, {f"alpine/{ARCH}/{staged.path.name}": staged.path.read_bytes()})
    alpine.sign_repository(site, alpine.list_packages(site))
    alpine.read_repository(site, print)
    alpine.install(site, ["linux-lts"], print)
    assert (
        (tmp_path / "calls").read_text().splitlines()[-1].endswith("add --upgrade linux-lts@ramos")
    )
    keys = site.root / "etc/apk/keys"
    index = read_index(site.packages / f"alpine/{ARCH}/APKINDEX.tar.gz", keys)
    entry = index.need_newest("linux-lts")
    ours = site.packages / f"alpine/{ARCH}/linux-lts-6.12.40-r0.apk"
    package = verify_package(ours, keys, identity=entry.identity, name="linux-lts")
    names = [member.name for member in package.members]
    assert not [name for name in names if "modules/" in name or "vmlinuz" in name]
    assert package.depends == ()
    assert package.installed_bytes >= 1
    lines = (site.root / "etc/apk/repositories").read_text().splitlines()
    assert lines[-1] == f"@ramos {site.packages}/alpine"
    assert "@edge /nowhere" in lines
    repository.delete_packages(site, ["linux-lts"])
    assert not ours.exists()
    assert read_index(site.packages / f"alpine/{ARCH}/APKINDEX.tar.gz", keys).entries == {}


def test_a_package_that_only_the_index_vouches_for_is_refused(
    site: Site, mirror: Mirror, tmp_path: Path
) -> None:
    found = alpine.find_candidates(site, ["linux-lts"])["linux-lts"]
    other = make_mirror(tmp_path / "other", list_toy_specs(), "test-2.rsa")
    genuine = mirror.package("linux-lts")
    genuine.write_bytes(other.package("linux-lts").read_bytes())
    with pytest.raises(RamosError, match="not trusted"):
        alpine.fetch(site, found, site.work / "one", print)


def test_a_swapped_but_signed_package_is_refused(site: Site, mirror: Mirror) -> None:
    found = alpine.find_candidates(site, ["linux-lts"])["linux-lts"]
    add_package(mirror, Spec("linux-lts", {"etc/x": b"x"}, version="6.12.40-r0"))
    with pytest.raises(RamosError, match="the index names"):
        alpine.fetch(site, found, site.work / "one", print)


def test_an_index_with_a_foreign_key_is_refused(site: Site) -> None:
    for key in (site.root / "etc/apk/keys").iterdir():
        key.unlink()
    make_key(site.root / "etc/apk/keys/test-1.rsa", 2048)
    with pytest.raises(RamosError, match="BAD signature"):
        alpine.find_candidates(site, ["linux-lts"])


def test_the_database_forgets_what_has_left(site: Site) -> None:
    assert alpine.list_kernel_versions(site, ["linux-lts"]) == ["6.12.1-0-lts"]
    alpine.release_files(site, "linux-lts", recipe_for("linux-lts"))
    text = (site.root / "lib/apk/db/installed").read_text()
    record = text.split("\n\n")[0].split("\n")
    assert record[3:] == ["F:boot", "F:lib/modules"]
    assert text.split("\n\n")[1] == DATABASE.split("\n\n")[1]
    assert {name: found.special for name, found in alpine.list_installed(site).items()} == {
        "linux-lts": False,
        "htop": False,
    }
    (site.root / "etc/apk/world").write_text("linux-lts@ramos\nhtop\n")
    assert alpine.list_installed(site)["linux-lts"].special


def test_only_what_apk_calls_broken_is_broken(tmp_path: Path) -> None:
    database = tmp_path / alpine.DATABASE
    database.parent.mkdir(parents=True)
    database.write_text("P:whole\nV:1\n\nP:odd\nV:1\nf:f\n\nP:last\nV:2\n\n")
    site: Any = SimpleNamespace(root=tmp_path)
    assert alpine._list_broken(site) == ["odd"]
