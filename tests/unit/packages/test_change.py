"""A change of packages that is refused or fails: who asked for it hears of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ramos.boot import grubenv
from ramos.errors import RamosError
from ramos.packages import change, engine, journal
from ramos.packages.build import Prepared
from ramos.packages.site import Installed, Removal, Site
from ramos.progress import quiet
from ramos.store.generations import make_tree
from tests.labs.packagelab import make_site

KERNEL = "linux-image-test"
NOTHING = change.Work((), (), Prepared(None, (), {}, {}))


def make_stick(tmp_path: Path, **manager: Any) -> Site:
    """One kernel on the ESP, nothing on persist, and a package manager that does what it can."""
    kernel = tmp_path / "esp/kernels/6.1"
    kernel.mkdir(parents=True)
    (kernel / "complete").touch()
    (tmp_path / "esp/grub").mkdir()
    (tmp_path / "esp/grub/grubenv").write_bytes(grubenv.render(grubenv.initial("6.1")))
    (tmp_path / "persist/packages/debian").mkdir(parents=True)
    make_tree(tmp_path / "persist")
    does: dict[str, Any] = {
        "find_repository": lambda site: site.packages / "debian",
        "list_installed": lambda _: {KERNEL: Installed(KERNEL, "1", False)},
        "list_packages": lambda _: [],
        "read_repository": lambda *_: None,
        "sign_repository": lambda *_: None,
    }
    return make_site(
        SimpleNamespace(BASE="debian", **does, **manager), "6.1", tmp_path, tmp_path / "root"
    )


def test_an_install_that_does_not_go_on_fails_the_change(tmp_path: Path) -> None:
    def install(_site: Site, _names: Any, _on_line: Any, *, simulate: bool = False) -> None:
        if not simulate:
            raise RamosError("cannot install", KERNEL, "no room")

    site = make_stick(tmp_path, install=install)
    with pytest.raises(RamosError, match="no room"):
        change.make_change(site, NOTHING, quiet)
    assert not journal.journal_path(site.persist).exists(), "it was undone"


def test_the_package_of_the_last_kernel_stays_with_its_kernel(tmp_path: Path) -> None:
    gone: list[str] = []
    site = make_stick(
        tmp_path,
        list_kernel_versions=lambda *_: ["6.1"],
        plan_removal=lambda *_: Removal((KERNEL,), ()),
        release_files=lambda _site, name, _recipe: gone.append(name),
        remove=lambda _site, names, _on_line: gone.extend(names),
    )
    with pytest.raises(RamosError, match="last kernel"):
        engine.remove(site, [KERNEL], quiet)
    assert gone == []
