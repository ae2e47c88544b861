"""What an upgrade brings in, as far as it does not take a package manager to know."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ramos.errors import UsageError
from ramos.packages import engine
from ramos.packages.site import Candidate, Installed
from tests.labs.packagelab import make_site


def make_manager(installed: str, offered: str) -> Any:
    """A mirror that has one kernel, and a system that has one."""
    name = "linux-image-test"

    def find_candidates(_site: Any, wanted: Iterable[str]) -> dict[str, Candidate]:
        assert [*wanted] == [name]
        return {name: Candidate(name=name, version=offered, proof="", size_bytes=1)}

    return SimpleNamespace(
        BASE="debian",
        list_installed=lambda _site: {name: Installed(name, installed, False)},
        find_candidates=find_candidates,
        is_newer=lambda version, than: version > than,
    )


@pytest.mark.parametrize(("offered", "brought"), [("1", []), ("2", []), ("3", ["3"])])
def test_an_upgrade_brings_what_is_newer_and_minds_nothing_else(
    offered: str, brought: list[str], tmp_path: Path
) -> None:
    site = make_site(make_manager("2", offered), "6.1", tmp_path, tmp_path)
    assert [target.candidate.version for target in engine.find_newer(site)] == brought


def test_an_older_package_is_not_added(tmp_path: Path) -> None:
    manager = make_manager("2", "1")
    site = make_site(manager, "6.1", tmp_path, tmp_path)
    with pytest.raises(UsageError, match="2 is installed, and 1 is older"):
        engine.plan_targets(
            site, manager.list_installed(site), ["linux-image-test"], only_newer=False
        )
