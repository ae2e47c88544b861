"""Signatures of the stick's repository, checked by gpgv."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.formats.apk_sign import make_key
from ramos.formats.openpgp import find_fingerprint, make_public_key, sign_detached

pytestmark = pytest.mark.skipif(shutil.which("gpgv") is None, reason="needs gpgv")
NOW = 1_763_000_000


def verify(tmp_path: Path, data: bytes, signature: str, keyring: bytes) -> bool:
    (tmp_path / "keyring.gpg").write_bytes(keyring)
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "data.asc").write_text(signature)
    files = [str(tmp_path / name) for name in ("keyring.gpg", "data.asc", "data")]
    argv = ["gpgv", "--keyring", *files]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def test_gpgv_accepts_what_was_signed_and_nothing_else(tmp_path: Path) -> None:
    make_key(tmp_path / "one", 2048)
    make_key(tmp_path / "two", 2048)
    keyring = make_public_key(tmp_path / "one", "RAMOS stick")
    signature = sign_detached(tmp_path / "one", b"data\n", NOW)
    assert verify(tmp_path, b"data\n", signature, keyring)
    assert not verify(tmp_path, b"date\n", signature, keyring)
    assert not verify(tmp_path, b"data\n", sign_detached(tmp_path / "two", b"data\n", NOW), keyring)
    assert keyring == make_public_key(tmp_path / "one", "RAMOS stick")
    assert len(find_fingerprint(tmp_path / "one")) == 40


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")
    with pytest.raises(RamosError, match="cannot use key"):
        make_public_key(tmp_path / "key", "x")
