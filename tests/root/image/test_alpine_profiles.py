"""The mirror of the tests has every package of every profile, and apk installs the default one.

What `python3 -m tests.labs.alpine LAB` makes is what an image is built from by hand; this keeps the
whole list of each profile there, without a machine that boots it.
"""

from pathlib import Path

import pytest

from ramos.image import alpine, alpine_source
from ramos.image.plan import Plan
from ramos.linux import elf
from ramos.packages.build import find_microcode
from tests.labs import standins
from tests.labs.alpine import provide_lab
from tests.labs.alpine_mirror import Mirror

# Profile, kernel, firmware: each list once.
CHOICES = [("rescue", "virt", "common"), ("rescue", "lts", "all"), ("minimal", "lts", "none")]


@pytest.fixture(scope="module")
def lab() -> Mirror:
    return provide_lab()


def make_plan(lab: Mirror, scratch: Path, **choices: str) -> Plan:
    """What the command line of an image by hand becomes."""
    return Plan(
        base="alpine",
        init="openrc",
        cache=scratch,
        mirror=str(lab.path),
        keys=lab.keys,
        **choices,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("profile", "kernel", "firmware"), CHOICES, ids=str)
def test_apk_finds_every_package(
    lab: Mirror, tmp_path: Path, profile: str, kernel: str, firmware: str
) -> None:
    plan = make_plan(lab, tmp_path, profile=profile, kernel=kernel, firmware=firmware)
    alpine.resolve(plan)
    repositories = alpine_source.read_repositories(plan, plan.cache / "alpine")
    warnings: list[str] = []
    packages = alpine.choose_packages(plan, repositories, warnings.append)
    assert (packages, warnings) == (list(alpine.list_packages(plan)), [])
    tree = tmp_path / "tree"
    alpine.prepare_tree(plan, tree)
    with (
        alpine.provide_static(plan, repositories) as static,
        alpine.list_places(repositories) as places,
    ):
        call = alpine.plan_call(static, tree, places)
        alpine.run_apk([*call, "--initdb", "add"], print)
        chosen = {entry.name for _, entry in alpine.simulate(call, packages, repositories)}
    assert set(packages) <= chosen


def test_apk_installs_the_default_profile_and_its_programs_can_start(
    lab: Mirror, tmp_path: Path
) -> None:
    plan = make_plan(lab, tmp_path, kernel="virt")
    tree = tmp_path / "tree"
    source = alpine.resolve(plan)
    alpine.bootstrap(plan, source, tree, plan.cache / "alpine", print)
    folders = [folder for folder in standins.FOLDERS if not (tree / folder).is_symlink()]
    paths = [f"/{folder}/{path.name}" for folder in folders for path in (tree / folder).iterdir()]
    assert [path for path in paths if elf.find_file(tree, path) is None] == []
    assert elf.find_libraries(tree, paths), "one that is missing is an error"
    wanted = {program for row in standins.read_rows() for program in row.programs}
    assert wanted <= {Path(path).name for path in paths}
    assert list(find_microcode("alpine", tree)) == ["amd-ucode", "intel-ucode"]
    assert (tree / "lib/firmware/i915/NOTICE").read_text().startswith("the firmware of")
