"""The cache of root trees: a new one where the mirror has something newer, and else the old."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ramos.errors import RamosError
from ramos.image.cache import empty_cache, list_kept, provide_tree
from ramos.image.plan import Origin, Plan
from ramos.image.steps import Steps
from ramos.progress import Progress

SILENT = Origin("3.23", "http://here/alpine", "config", "")


def fill(_plan: Plan, source: Origin, tree: Path, _downloads: Path, _on_line: object) -> None:
    tree.mkdir()
    (tree / "state").write_text(source.state)


BASE: Any = SimpleNamespace(RECIPE_VERSION=1, list_packages=lambda _: ("a",), bootstrap=fill)


def provide(cache: Path, state: str, told: list[Progress]) -> str:
    """Of which mirror the tree is, that a build gets while the mirror stands so."""
    work = cache / f"work-{len(list(cache.iterdir()))}"
    work.mkdir()
    plan = Plan("alpine", cache / "x.img", cache)
    source = Origin(SILENT.release, SILENT.mirror, SILENT.config, state)
    tree, _ = provide_tree(plan, source, BASE, work, Steps(told.append))
    return (tree / "state").read_text()


def test_a_mirror_without_an_answer_is_told_and_the_old_tree_is_used(tmp_path: Path) -> None:
    told: list[Progress] = []
    assert provide(tmp_path, "one", told) == "one"
    assert provide(tmp_path, "two", told) == "two"
    told.clear()
    assert provide(tmp_path, "two", told) == "two"
    assert [(seen.step, seen.detail) for seen in told] == [("root tree", "reused")]
    told.clear()
    assert provide(tmp_path, "", told) == "two"
    assert told[0].step.startswith("http://here/alpine does not answer")


def test_without_an_answer_and_an_old_tree_there_is_nothing_to_build(tmp_path: Path) -> None:
    with pytest.raises(RamosError, match="mirror does not answer: http://here/alpine"):
        provide(tmp_path, "", [])


def test_what_is_kept_is_listed_and_forgotten(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    told: list[Progress] = []
    assert list_kept(cache) == []
    empty_cache(cache, Steps(told.append))
    assert not cache.exists()
    for name in (
        "device.img",
        "work-killed/file",
        "trees/one/tree/file",
        "images/rootfs-1",
        "debian/a.deb",
        "debian/b.deb",
    ):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(b"x" * 5000)
    (cache / "trees/one/tree/out").symlink_to("/usr")
    found = {(kept.kind, kept.path): kept.size_bytes for kept in list_kept(cache)}
    assert {*found} == {
        ("root tree", "trees/one"),
        ("image", "images/rootfs-1"),
        ("packages", "debian"),
        ("unfinished", "work-killed"),
        ("unfinished", "device.img"),
    }
    assert all(size >= 5000 for size in found.values())
    assert sum(found.values()) < 1 << 20, "a link is not followed"
    empty_cache(cache, Steps(told.append))
    assert list_kept(cache) == []
    assert [path.name for path in cache.iterdir()] == ["lock"]
    assert told == []
