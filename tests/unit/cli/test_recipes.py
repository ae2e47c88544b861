"""What `ramos pkg explain` says of a package."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ramos.cli import recipes
from ramos.packages.explain import Explanation
from ramos.packages.recipe import find_recipe, parse_recipe, plan_package

KERNEL = """
base = "debian"
summary = "a kernel"
match = ["linux-image-*"]
after = ["kernel"]
[move]
"boot/vmlinuz-*" = "kernel"
[scripts]
drop = "all"
"""


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse_recipe(KERNEL, "/usr/share/x/kernel.toml")
    plan = plan_package(recipe, [("boot/vmlinuz-6", 7), ("usr/share/doc/x", 2048)], ["prerm"], [])
    name = "linux-image-6"
    assert find_recipe([recipe], name, "debian") is recipe
    found = Explanation(name, "6.1", recipe, plan)
    monkeypatch.setattr(recipes, "explain_file", lambda *_: found)


@pytest.mark.usefixtures("explained")
def test_every_part_of_a_package_is_accounted_for(tmp_path: Path) -> None:
    done = CliRunner().invoke(recipes.explain, [f"{tmp_path}/x.deb"])
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    assert lines[0] == "linux-image-6 6.1: a kernel"
    assert "leaves boot/vmlinuz-* -> the ESP, as vmlinuz (1 file, 7 B)" in lines
    assert "stays 1 file, 2.0 KiB" in lines
    assert "scripts dropped: prerm" in lines


@pytest.mark.usefixtures("explained")
def test_a_program_is_told_the_recipe_and_the_parts(tmp_path: Path) -> None:
    done = CliRunner().invoke(recipes.explain, [f"{tmp_path}/x.deb", "--json"])
    told = json.loads(done.output)
    assert told["recipe"] == "kernel"
    assert told["stays"] == {"files": 1, "size_bytes": 2048}


def test_an_ordinary_package_has_no_recipe() -> None:
    done = CliRunner().invoke(recipes.explain, ["bash", "--base", "debian", "--json"])
    assert json.loads(done.output)["recipe"] is None
