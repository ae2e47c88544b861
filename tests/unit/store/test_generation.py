"""The generation format: what is written is read again, and nothing else is."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramos.errors import DamagedError, RamosError
from ramos.store.generation import Generation, StoredFile, parse, plain_word, render, seal

DIGEST = "0123456789abcdef" * 4
ROOTFS = StoredFile("rootfs", "rootfs.squashfs", 80, DIGEST, DIGEST)
LAYER = StoredFile("layer", f"upperfs/layers/{DIGEST}.squashfs", 4096, DIGEST)


def make(message: str = "", files: tuple[StoredFile, ...] = (ROOTFS, LAYER)) -> Generation:
    return Generation(42, 41, 1763720000, "6.1.0-28-amd64", "user", message, files)


def reseal(body: str) -> bytes:
    """A body with a matching `end` line: only its content can be wrong."""
    return f"{body}end={hashlib.sha256(body.encode()).hexdigest()}\n".encode()


@given(st.text())
def test_any_message_comes_back(message: str) -> None:
    text = render(make(message))
    assert text.isascii()
    assert parse(text.encode(), "000042") == make(message)


def test_layers_and_base_are_told_apart() -> None:
    assert make().base == (ROOTFS,)
    assert make().layers == (LAYER,)


@given(st.integers(0, len(render(make())) * 8 - 1))
def test_one_flipped_bit_is_noticed(bit: int) -> None:
    data = bytearray(render(make()).encode())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedError):
        parse(bytes(data), "000042")


@given(st.integers(0, len(render(make())) - 1))
def test_a_truncated_file_is_noticed(length: int) -> None:
    with pytest.raises(DamagedError):
        parse(render(make()).encode()[:length], "000042")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("generation=42", "generation=43", "it says it is generation 43"),
        ("parent=41", "parent=x", "parent is not a number"),
        ("kernel=6.1.0-28-amd64", "kernel=a b", "kernel is not a word"),
        ("  rootfs.squashfs", "  ../rootfs.squashfs", "not a checksum line"),
        ("  rootfs.squashfs", "  /rootfs.squashfs", "not a checksum line"),
        ("object=rootfs", "object=bogus", "not an object line"),
        ("reason=user\n", "", "its header is not"),
        ("ramos-generation=1", "ramos-generation=2", "newer than this RAMOS"),
    ],
)
def test_hostile_files_are_named(old: str, new: str, complaint: str) -> None:
    body = render(make()).rpartition("end=")[0].replace(old, new, 1)
    with pytest.raises(DamagedError, match=complaint):
        parse(reseal(body), "000042")


def test_a_base_image_above_a_layer_is_refused() -> None:
    with pytest.raises(DamagedError, match="above a layer"):
        parse(render(make(files=(LAYER, ROOTFS))).encode(), "000042")


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(DamagedError, match="larger"):
        parse(b"x" * 70000, "000042")


@pytest.mark.parametrize("path", ["modules-6.1 (copy).squashfs", "/rootfs.squashfs", "a/.b", "ä"])
def test_what_the_reader_would_not_take_is_not_written(path: str) -> None:
    bad = make(files=(StoredFile("modules", path, 1, DIGEST),))
    with pytest.raises(RamosError, match="no boot would have taken it"):
        seal(bad)
    with pytest.raises(RamosError, match="no boot would have taken it"):
        seal(replace(make(), number=10**9))
    assert seal(make()) == render(make()).encode()


def test_words_lose_what_the_format_cannot_hold() -> None:
    assert plain_word("two words\n") == "two_words_"
    assert plain_word("6.1.0-28-amd64+b1~x_y") == "6.1.0-28-amd64+b1~x_y"
