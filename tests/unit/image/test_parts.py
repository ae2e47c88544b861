"""The parts of an image: each is made where the cache lacks it, and reused where it does not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ramos.boot import initramfs
from ramos.image import build, common_setup, payload, squash
from ramos.image.contents import Parts
from ramos.image.plan import Plan
from ramos.image.squash import Kernel
from ramos.image.steps import Steps
from ramos.progress import Progress

BASE: Any = SimpleNamespace(configure=lambda *_: None)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made, in the place of the real thing, which takes minutes."""
    made: list[str] = []

    def make(output: Path) -> None:
        made.append(output.name.partition("-")[0])
        output.write_text("a part")

    kernel = Kernel("6.1", Path("vmlinuz"))
    monkeypatch.setattr(squash, "find_kernel", lambda _: kernel)
    monkeypatch.setattr(squash, "copy_tree", lambda *_: None)
    monkeypatch.setattr(squash, "split_tree", lambda *_: None)
    monkeypatch.setattr(squash, "make_squashfs", lambda _, output, *__: make(output))
    monkeypatch.setattr(common_setup, "apply_settings", lambda *_: None)
    monkeypatch.setattr(payload, "install_payload", lambda *_: None)
    monkeypatch.setattr(initramfs, "build_initramfs", lambda _, __, output, **___: make(output))
    return made


def test_what_the_cache_lacks_is_made_and_what_it_has_is_not(
    tmp_path: Path, made: list[str]
) -> None:
    plan = Plan(base="debian", output=tmp_path / "x.img", cache=tmp_path)
    told: list[Progress] = []

    def provide() -> Parts:
        made.clear()
        told.clear()
        return build.provide_parts(plan, tmp_path, "id", BASE, tmp_path, Steps(told.append))

    parts = provide()
    assert made == ["initramfs", "rootfs", "modules", "firmware"]
    paths = (parts.initramfs, parts.rootfs, parts.modules, parts.firmware)
    assert [path.read_text() for path in paths] == ["a part"] * 4
    assert provide() == parts
    assert made == []
    assert [seen.step for seen in told if seen.detail == "reused"] == [
        *("initramfs", "rootfs", "modules", "firmware"),
    ]
    parts.initramfs.unlink()
    assert provide() == parts
    assert made == ["initramfs"]


def test_the_kernel_finds_microcode_before_the_initramfs(tmp_path: Path, made: list[str]) -> None:
    tree = tmp_path / "tree"
    (tree / "boot").mkdir(parents=True)
    (tree / "boot/intel-ucode.img").write_bytes(b"code")
    plan = Plan(base="alpine", output=tmp_path / "x.img", cache=tmp_path)
    parts = build.provide_parts(plan, tree, "id", BASE, tmp_path, Steps(lambda _: None))
    assert "initramfs" in made
    assert parts.initramfs.read_text() == "codea part"
    assert parts.microcode == {"intel-ucode": b"code"}
