"""Each module has a test that imports it or bears its name, or is listed with who holds it."""

import ast
from pathlib import Path

import pytest

from tests.lint import rules

# Modules that are only reached through others: the test that would fail.
THROUGH = {
    "ramos.cli.health": "root/daemon/test_runtime.py",
    "ramos.cli.history": "root/cli/test_save_cli.py",
    "ramos.cli.packages": "root/packages/test_apt_wrapper.py",
    "ramos.cli.recipes": "unit/test_escape.py",
    "ramos.cli.vm": "root/vm/test_accelerator.py",
    "ramos.daemon.notify": "root/daemon/test_runtime.py",
    "ramos.image.common_setup": "root/image/test_image_build.py",
    "ramos.image.rootless": "root/image/test_image_build.py",
    "ramos.layers.merge": "root/save/test_stories.py",
    "ramos.layers.obstacles": "root/save/test_hostile_saves.py",
    "ramos.layers.overlay": "root/save/test_stories.py",
    "ramos.layers.stack": "root/save/test_commit.py",
    "ramos.linux.beneath": "root/layers/test_hostile_paths.py",
    "ramos.linux.btrfs": "root/save/test_commit.py",
    "ramos.linux.syscalls": "root/daemon/test_runtime.py",
    "ramos.packages.change": "root/packages/test_packages.py",
    "ramos.packages.explain": "root/packages/test_packages.py",
    "ramos.packages.running": "root/packages/test_packages_refused.py",
    "ramos.packages.unpack": "root/packages/test_packages.py",
    "ramos.save.diff": "root/save/test_commit.py",
    "ramos.save.ground": "root/save/test_stories.py",
    "ramos.save.snapshot": "root/save/test_live_commit.py",
    "ramos.save.space": "root/save/test_commit.py",
    "ramos.vm.qmp": "root/vm/test_accelerator.py",
    "ramos.vm.serial": "vm/boot/test_boot.py",
    "ramos.vm.watch": "root/vm/test_accelerator.py",
}
MODULES = [p for p in rules.list_python("ramos") if not p.name.startswith("__")]
TESTS = rules.list_python("tests")


def list_imported() -> set[str]:
    """Every name of ours that a test imports."""
    found = set()
    for path in TESTS:
        for node in ast.walk(rules.parse_python(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ramos"):
                found |= {str(node.module), *(f"{node.module}.{a.name}" for a in node.names)}
    return found


IMPORTED = list_imported()
STEMS = {path.stem for path in TESTS}


@pytest.mark.parametrize("path", MODULES, ids=rules.module_name)
def test_a_module_has_a_test(path: Path) -> None:
    module = rules.module_name(path)
    named = any(stem.startswith(f"test_{path.stem}") for stem in STEMS)
    assert named or module in IMPORTED or module in THROUGH, f"no test is about {module}"


def test_who_stands_for_others_is_there() -> None:
    known = {rules.module_name(path) for path in MODULES}
    assert set(THROUGH) <= known
    for module, test in THROUGH.items():
        assert (rules.REPOSITORY / "tests" / test).is_file(), module
