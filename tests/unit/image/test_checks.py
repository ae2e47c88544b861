"""What a build refuses early: the build, --plan and the wizard ask one table."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.image import build, checks
from ramos.image.plan import Plan


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan that nothing stands against but that its mirror is not there."""
    for folder, names in (("zones", ("UTC", "Europe/Berlin")), ("layouts", ("us", "de"))):
        for name in names:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).touch()
    monkeypatch.setattr(checks, "ZONES", tmp_path / "zones")
    monkeypatch.setattr(checks, "LAYOUTS", tmp_path / "layouts")
    keys = tmp_path / "keys"
    keys.touch()
    return Plan(
        base="debian",
        init="systemd",
        release="bookworm",
        output=tmp_path / "x.img",
        cache=tmp_path / "cache",
        mirror=str(tmp_path / "mirror"),
        keys=keys,
    )


def find_refusals(plan: Plan) -> list[checks.Refusal]:
    return [*checks.find_refusals(checks.CHECKS, plan)]


CHANGES: dict[str, tuple[str, Callable[[Plan], Plan]]] = {
    "words": ("bad --user", lambda plan: replace(plan, user="Root")),
    "size": ("too small", lambda plan: replace(plan, size_bytes=1 << 20)),
    "directory": ("it is a directory", lambda plan: replace(plan, output=plan.cache.parent)),
    "nowhere": ("there is no directory", lambda plan: replace(plan, output=Path("/none/x.img"))),
    "timezone": ("unknown time zone", lambda plan: replace(plan, timezone="Mars/Olympus")),
    "keymap": ("unknown keyboard layout", lambda plan: replace(plan, keymap="xx-dvorak")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_refusal_is_met_before_anything_is_done(name: str, plan: Plan) -> None:
    told, change = CHANGES[name]
    wrong = change(plan)
    assert any(told in str(refusal.error) for refusal in find_refusals(wrong))
    with pytest.raises(RamosError, match=told):
        build.build_image(wrong, lambda _: None)
    assert not plan.cache.exists()


def test_a_full_disk_is_refused(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=79 << 20))
    plan = replace(plan, profile="minimal")
    (told,) = [r.error for r in find_refusals(plan) if "are free" in r.error.reason]
    assert "79.0 MiB are free there" in told.reason
    trees = plan.cache / "trees/old"
    trees.mkdir(parents=True)
    (trees / "state").touch()
    (less,) = [r.error for r in find_refusals(plan) if "are free" in r.error.reason]
    assert parse_least(less) < parse_least(told), "a tree that is there takes no room"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 << 30))
    assert not [r for r in find_refusals(plan) if "are free" in r.error.reason]


def parse_least(error: RamosError) -> float:
    return float(error.reason.split()[-5])


def test_a_missing_program_is_refused(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")
    (error,) = [
        refusal.error
        for refusal in find_refusals(plan)
        if refusal.error.reason == "missing on this machine"
    ]
    assert "mksquashfs" in error.obj
    assert "squashfs-tools" in error.hint


def test_a_mirror_that_is_not_there_is_refused_unless_a_tree_is(plan: Plan) -> None:
    found = [refusal.about for refusal in find_refusals(plan)]
    assert ("base",) in found
    (Path(plan.mirror) / "dists/bookworm").mkdir(parents=True)
    (Path(plan.mirror) / "dists/bookworm/InRelease").write_text("signed\n")
    left = [refusal for refusal in find_refusals(plan) if refusal.error.obj == plan.mirror]
    assert left == []


@pytest.mark.parametrize("keymap", ["us", "de", "de-nodeadkeys"])
def test_what_is_there_is_not_refused(plan: Plan, keymap: str) -> None:
    asked = replace(plan, keymap=keymap, timezone="Europe/Berlin")
    assert {r.about for r in find_refusals(asked)} <= {("base",), ("base", "encrypt")}
    assert not os.path.lexists(plan.cache)
