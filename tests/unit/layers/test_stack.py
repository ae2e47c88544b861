"""A stack of layers: which of them says anything about a path."""

import os
from pathlib import Path

import pytest

from ramos.layers.stack import is_mentioned


@pytest.mark.parametrize(
    ("path", "mentioned"),
    [
        (b"a", True),
        (b"a/b", True),
        (b"a/b/file", True),
        (b"a/b/file/below", True),
        (b"a/absent", False),
        (b"absent/b", False),
    ],
)
def test_a_layer_speaks_of_what_it_has_and_of_what_that_hides(
    path: bytes, mentioned: bool, tmp_path: Path
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").touch()
    assert is_mentioned(os.fsencode(tmp_path), path) is mentioned
