"""Everything that a build runs is looked for before it, and has a package that can be installed."""

import re
from dataclasses import replace

from ramos.image import figures, tools
from ramos.image.plan import Plan
from tests.conftest import REPOSITORY
from tests.unit.image.test_programs import find_programs

PLAN = Plan(base="debian", encrypt=True, password_hash="*", device_bytes=1)
# Debian has them whatever was installed.
ALWAYS_THERE = {"apt", "coreutils", "dpkg"}
# What a build runs of other rooms.
ELSEWHERE = ("boot/initramfs.py", "linux/kmod.py", "stick/grow.py", "stick/luks.py", "cli/image.py")
# On a running stick alone.
ON_A_STICK = {"losetup"}


def test_whatever_a_build_runs_is_looked_for() -> None:
    ours = REPOSITORY / "ramos"
    paths = [*(ours / "image").glob("*.py"), *(ours / name for name in ELSEWHERE)]
    run = {program for path in paths for program in find_programs(path)}
    needed = {*tools.list_needed(PLAN), *tools.list_needed(replace(PLAN, base="alpine"))}
    assert {"zstd", "sgdisk", "sfdisk", "cryptsetup", "apt-config"} <= run & needed
    assert run - ON_A_STICK <= needed


def test_each_program_has_a_package_that_the_builder_installs() -> None:
    script = (REPOSITORY / "build-image.sh").read_text()
    found = re.search(r'^HOST_PACKAGES="([^"]*)"', script, re.MULTILINE)
    assert found
    for base in ("alpine", "debian"):
        for program in tools.list_needed(replace(PLAN, base=base)):
            assert tools.PACKAGES[program] in {*found[1].split(), *ALWAYS_THERE}, program


def test_only_what_a_plan_needs_is_asked_for() -> None:
    plain = tools.list_needed(Plan(base="debian"))
    assert not {"cryptsetup", "openssl", "sfdisk"} & set(plain)


def test_packages_are_named_once() -> None:
    assert tools.name_packages(["mmd", "mcopy", "zstd"], ["grub-pc-bin"]) == (
        "mtools zstd grub-pc-bin"
    )


def test_the_figures_are_those_that_were_measured() -> None:
    text = (REPOSITORY / "bench/RESULTS.md").read_text()
    for (base, profile), known in figures.FIGURES.items():
        words = (base, profile, known.image_mib, known.tree_mib, known.seconds or "")
        assert f"| {' | '.join(map(str, words))} |".replace("  |", " |") in text, (base, profile)


def test_an_estimate_says_about() -> None:
    assert figures.describe_build("debian", "rescue") == "about 440 MiB, about 70 s to build"
    assert figures.describe_build("alpine", "minimal") == "about 90 MiB"
    assert figures.describe_build("auto", "rescue") == ""


def test_the_least_is_well_below_what_was_measured() -> None:
    for (base, profile), known in figures.FIGURES.items():
        least = figures.find_least(Plan(base=base, profile=profile))
        assert 0 < least.image_mib < known.image_mib * 0.8
        assert 0 < least.tree_mib < known.tree_mib * 0.8
    rescue, minimal = (Plan(base="alpine", profile=name) for name in ("rescue", "minimal"))
    assert figures.find_least(rescue) == figures.find_least(minimal)
    assert figures.find_least(Plan()) == figures.find_least(minimal)
