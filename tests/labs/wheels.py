"""Packages of the Python registry that carry what a test needs, each pinned by version and hash.

Owns: one copy of each below .cache, whichever worker asks first. Refuses: a file with another hash,
and a quiet gap: where one cannot be had a test fails in CI, and is skipped elsewhere.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import filelock
import pytest

CACHE = Path(__file__).resolve().parents[2] / ".cache"
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet")
# No wheel here is for the interpreter that runs the tests.
ANY_WHEEL = ("--no-deps", "--require-hashes", "--only-binary=:all:")


@dataclass(frozen=True)
class Wheel:
    """A wheel, and what pip has to be told to take it."""

    name: str
    version: str
    sha256: str
    options: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its files lie once they are here."""
        return CACHE / "wheels" / f"{self.name}-{self.version}-{self.sha256[:12]}"


def give_up(reason: str) -> NoReturn:
    """End a test that lacks something of the outside world."""
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(f"NOT TESTED: {reason}")


def need_programs(*names: str) -> None:
    """End the test where a program of the host is missing."""
    missing = [name for name in names if not shutil.which(name, path=f"{os.environ['PATH']}:/sbin")]
    if missing:
        give_up(f"this machine has no {', '.join(missing)}")


def provide_wheel(wheel: Wheel) -> Path:
    """The unpacked files of a wheel."""
    wheel.folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(wheel.folder.with_suffix(".lock")):
        if not wheel.folder.exists():
            part = wheel.folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            _download(wheel, part)
            part.rename(wheel.folder)
    return wheel.folder


def _download(wheel: Wheel, folder: Path) -> None:
    wanted = folder / "wanted"
    wanted.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    places = ("--requirement", str(wanted), "--dest", str(folder))
    argv = [*PIP, *ANY_WHEEL, *wheel.options, *places]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["pip said nothing"]
        give_up(f"pip cannot fetch {wheel.name} {wheel.version}: {lines[-1]}")
    for path in folder.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        path.unlink()
    wanted.unlink()
