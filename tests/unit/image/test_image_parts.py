"""The pieces of an image: GRUB for BIOS, the partition plan, holes, what travels into the image."""

import os
import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from ramos import config, layout
from ramos.errors import RamosError
from ramos.image import bases, checks, grub, partitions, payload, squash
from ramos.image.common_setup import render_issue
from ramos.image.plan import ALIGNMENT_BYTES, Plan
from ramos.sizes import MIB

PLAN = Plan(base="debian", output=Path("/x/stick.img"), cache=Path("/x/cache"), init="systemd")


def test_boot_code_knows_where_the_core_is() -> None:
    patched = grub.patch_bios(bytes(512), b"\x11" * 1000, 2048)
    assert len(patched.boot_code) == grub.BOOT_CODE_BYTES
    assert struct.unpack_from("<Q", patched.boot_code, 0x5C) == (2048,)
    assert len(patched.core) == 1024
    assert struct.unpack_from("<QHH", patched.core, 0x1F4) == (2049, 1, 0x820)


def test_a_core_that_no_bios_can_load() -> None:
    with pytest.raises(RamosError):
        grub.patch_bios(bytes(512), bytes(grub.CORE_MAXIMUM_BYTES + 1), 2048)


def test_partitions_are_aligned_and_apart() -> None:
    for size in (600 * MIB, 8 << 30, (8 << 30) + 123 * MIB):
        table = partitions.DiskLayout(size)
        assert table.esp_start % ALIGNMENT_BYTES == table.persist_start % ALIGNMENT_BYTES == 0
        assert table.persist_start == table.esp_start + table.esp_bytes
        # The second table needs 33 sectors at the end.
        assert table.persist_start + table.persist_bytes <= size - 33 * 512


def test_identity_comes_from_the_seed() -> None:
    assert partitions.make_identity("a") == partitions.make_identity("a")
    assert partitions.make_identity("a") != partitions.make_identity("b")
    assert partitions.make_identity("") != partitions.make_identity("")
    identity = partitions.make_identity("a")
    ids = [identity.disk, identity.esp_part, identity.persist_part, identity.persist]
    assert len(set(ids)) == len(ids)


def test_copy_into_keeps_holes(tmp_path: Path) -> None:
    source, image = tmp_path / "source", tmp_path / "image"
    data = random.Random(1).randbytes(3 * MIB // 2)
    with source.open("wb") as file:
        file.truncate(64 * MIB)
        file.seek(16 * MIB)
        file.write(data)
    with image.open("wb") as file:
        file.truncate(128 * MIB)
    partitions.copy_into(source, image, 8 * MIB)
    with image.open("rb") as file:
        file.seek(24 * MIB)
        assert file.read(len(data)) == data
        assert not any(file.read(MIB))
    assert image.stat().st_blocks * 512 < 8 * MIB


@pytest.mark.parametrize("kind", ["directory", "device", "no parent"])
def test_where_no_image_can_be(tmp_path: Path, kind: str) -> None:
    places = {
        "directory": tmp_path,
        "device": Path(os.devnull),
        "no parent": tmp_path / "none" / "x.img",
    }
    with pytest.raises(RamosError, match=str(places[kind])) as caught:
        checks.check_output(Plan(output=places[kind]))
    assert caught.value.hint


def test_what_travels() -> None:
    places = [place for place, _ in payload.list_sources()]
    assert len(places) == len(set(places))
    assert "usr/lib/ramos/ramos/cli/__init__.py" in places
    assert "usr/share/ramos/initramfs-hooks/init" in places
    assert "usr/share/ramos/grub/grub.cfg" in places
    assert "usr/share/man/man1/ramos-image.1.gz" in places
    assert not [place for place in places if "__pycache__" in place or "/tests/" in place]


def test_every_service_is_for_a_known_runlevel() -> None:
    for folder in ("openrc", "openrc-debian"):
        for script in (layout.find_data("services") / folder).iterdir():
            found = payload.OPENRC_RUNLEVEL.search(script.read_text(encoding="utf-8"))
            assert found, f"{script} does not say its runlevel"
            assert found[1] in ("sysinit", "boot", "default", "shutdown")


def test_the_default_configuration_is_valid_once_uncommented() -> None:
    text = payload.render_default_config()
    assert config.merge([("commented", text)]).problems == ()
    lines = [
        line[1:] if line.startswith("#") and " = " in line else line for line in text.split("\n")
    ]
    loaded = config.merge([("uncommented", "\n".join(lines))])
    assert loaded.problems == ()
    assert loaded.config == config.Config()


def test_squashfs_command() -> None:
    argv = squash.plan_squash(Path("/tree"), Path("/out"), 19)
    assert argv[:3] == ["mksquashfs", "/tree", "/out"]
    assert "-reproducible" in argv
    assert argv[argv.index("-Xcompression-level") + 1] == "19"


def test_a_tree_without_a_kernel(tmp_path: Path) -> None:
    with pytest.raises(RamosError, match="modules"):
        squash.find_kernel(tmp_path)
    (tmp_path / "usr/lib/modules").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    with pytest.raises(RamosError, match="one kernel"):
        squash.find_kernel(tmp_path)


def test_the_bases_are_interchangeable() -> None:
    for name, base in bases.BASES.items():
        for function in ("probe", "resolve", "bootstrap", "configure", "list_packages"):
            assert callable(getattr(base, function)), f"{name}.{function}"
        assert base.list_packages(replace(PLAN, base=name, init=base.DEFAULT_INIT))


def test_the_issue_names_the_user_and_whether_a_password_is_asked() -> None:
    assert "Log in as: ann (no password is asked)" in render_issue(replace(PLAN, user="ann"))
    locked = replace(PLAN, user="ann", password_hash="$6$x")
    assert "Log in as: ann (with your password)" in render_issue(locked)


def test_nothing_is_left_beside_a_file_system(tmp_path: Path) -> None:
    (tmp_path / "content").mkdir()
    identity = partitions.make_identity("a")
    partitions.make_persist(tmp_path / "persist", 16 * MIB, tmp_path / "content", identity, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"content", "persist"}
