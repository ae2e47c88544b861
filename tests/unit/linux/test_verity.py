"""The fs-verity digest is the one that the kernel and `fsverity` compute."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramos.linux import verity

# `fsverity digest` of an empty file.
EMPTY = "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"
SIZES = (1, 4095, 4096, 4097, 8192, 524288, 524289, 524288 + 4096, 3 << 20)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert verity.digest_file(path).verity == EMPTY


@pytest.mark.skipif(shutil.which("fsverity") is None, reason="needs fsverity")
@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize("direct", [False, True])
def test_matches_fsverity(tmp_path: Path, size_bytes: int, direct: bool) -> None:
    path = tmp_path / "data"
    path.write_bytes(random.Random(size_bytes).randbytes(size_bytes))
    told = subprocess.run(
        ["fsverity", "digest", "--compact", path], capture_output=True, text=True, check=True
    )
    digests = verity.digest_file(path, direct=direct)
    assert digests.verity == told.stdout.strip()
    assert digests.size_bytes == size_bytes


@pytest.mark.skipif(shutil.which("fsverity") is None, reason="needs fsverity")
def test_three_levels_match_fsverity(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(68 << 20)
    told = subprocess.run(
        ["fsverity", "digest", "--compact", path], capture_output=True, text=True, check=True
    )
    assert verity.digest_file(path).verity == told.stdout.strip()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=9000), max_size=12))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    split = verity.MerkleHasher()
    for piece in pieces:
        split.update(piece)
    whole = verity.MerkleHasher()
    whole.update(b"".join(pieces))
    assert split.hexdigest() == whole.hexdigest()


def test_plain_file_is_not_sealed(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_bytes(b"ramos\n")
    assert verity.measure_verity(path) == ""
