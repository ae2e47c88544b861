"""The tool that makes a layer, which may hang or complain; and how a layer gets its name."""

from pathlib import Path

import pytest

from ramos import layout
from ramos.config import SaveConfig
from ramos.errors import RamosError
from ramos.layers.layer import NewLayer, make_squashfs, publish_layer
from ramos.layers.walk import Delta
from ramos.linux.squashfs import run_squashfs
from ramos.linux.verity import digest_file
from ramos.packages.trees import pack_image


def test_a_tool_that_stands_still_is_ended(tmp_path: Path) -> None:
    with pytest.raises(RamosError, match="it stands still"):
        run_squashfs(["sleep", "1000"], tmp_path / "layer", 1 << 20, stuck_seconds=1.5)


def test_a_tool_that_works_is_not(tmp_path: Path) -> None:
    program = "while [ $((n += 1)) -lt 300000 ]; do :; done"
    run_squashfs(["sh", "-c", program], tmp_path / "layer", 1 << 20, stuck_seconds=0.1)


@pytest.mark.parametrize("says", ["echo 'Failed to read file x, creating empty file'", "false"])
def test_a_tool_that_complains_or_fails_has_made_nothing(tmp_path: Path, says: str) -> None:
    with pytest.raises(RamosError, match=r"creating empty file|status 1"):
        run_squashfs(["sh", "-c", says], tmp_path / "layer", 1 << 20)


def test_what_a_layer_cannot_hold_anyway_is_no_complaint(tmp_path: Path) -> None:
    says = "echo 'Unrecognised xattr prefix system.posix_acl_access'"
    run_squashfs(["sh", "-c", says], tmp_path / "layer", 1 << 20)
    with pytest.raises(RamosError, match=r"user\.x"):
        run_squashfs(["sh", "-c", f"{says}; echo user.x"], tmp_path / "layer", 1 << 20)


def test_a_layer_that_grows_too_large_is_ended(tmp_path: Path) -> None:
    argv = ["dd", "if=/dev/zero", f"of={tmp_path}/layer", "bs=64K", "count=64", "status=none"]
    with pytest.raises(RamosError, match=r"larger than the 1\.0 MiB"):
        run_squashfs([*argv], tmp_path / "layer", 1 << 20)


def test_a_damaged_layer_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    """What has a content name need not have the content."""
    (tmp_path / layout.LAYERS_DIR).mkdir(parents=True)
    for content in (b"damaged", b"content", b"content"):
        new = tmp_path / layout.LAYERS_DIR / "new.squashfs.tmp"
        new.write_bytes(b"content")
        digests = digest_file(new)
        final = tmp_path / layout.layer_path(digests.sha256)
        final.write_bytes(content)
        stored = publish_layer(tmp_path, NewLayer(new, digests))
        assert (tmp_path / stored.path).read_bytes() == b"content"
        final.unlink()
        new.unlink(missing_ok=True)


@pytest.mark.parametrize("says", ["", "Failed to read file x, creating empty file"])
def test_base_images_are_made_under_the_same_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """A limit for its output, and any complaint fails, on standard output too."""
    tool, tree, image = tmp_path / "mksquashfs", tmp_path / "tree", tmp_path / "image"
    tool.write_text(f'#!/bin/sh\nulimit -f >"{tmp_path}/limit"\n: >"$2"\nprintf "%s" "{says}"\n')
    tool.chmod(0o755)
    tree.mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if says:
        with pytest.raises(RamosError, match="creating empty file"):
            pack_image(tree, image)
        assert not image.exists()
    else:
        pack_image(tree, image)
        assert image.exists()
    assert (tmp_path / "limit").read_text().strip().isdigit()


def test_a_layer_does_not_say_when_it_was_made(tmp_path: Path) -> None:
    """A save that is tried again makes the same file, and it is stored once."""
    (tmp_path / "tree").mkdir()
    make_squashfs(tmp_path / "tree", tmp_path / "layer", SaveConfig(), 1 << 20, Delta())
    made = (tmp_path / "layer").read_bytes()[8:12]
    assert made == bytes(4), "the time of its making in the superblock"
