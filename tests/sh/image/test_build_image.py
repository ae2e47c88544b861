"""build-image.sh and bin/ramos, as somebody else's machine runs them: no Debian, no package."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ramos.__main__ import PACKAGES
from tests.conftest import REPOSITORY

PROGRAMS = ("sh", "cat", "dirname", "id", "ln")
# An interpreter that finds no module of that name.
WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None
sys.path.insert(0, sys.argv.pop(1))
from ramos.__main__ import main
main()
"""


@dataclass
class Elsewhere:
    """A machine without Debian's programs."""

    programs: Path
    prefix: Path
    folder: Path

    def run(self, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": str(self.programs), "PREFIX": str(self.prefix), **more}
        return subprocess.run(
            words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    folders = [tmp_path / name for name in ("programs", "prefix/bin", "folder")]
    for folder in folders:
        folder.mkdir(parents=True)
    for name in PROGRAMS:
        place = next(p for p in ("/usr/bin", "/bin") if Path(p, name).exists())
        (folders[0] / name).symlink_to(Path(place, name))
    python = folders[0] / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return Elsewhere(folders[0], tmp_path / "prefix", folders[2])


@pytest.mark.parametrize("module", ["click", "ramos", "json", "pyroute2"])
def test_nothing_of_the_current_directory_runs(elsewhere: Elsewhere, module: str) -> None:
    for folder in (elsewhere.folder, elsewhere.folder / "path"):
        folder.mkdir(exist_ok=True)
        (folder / f"{module}.py").write_text('open("planted", "w")\n')
    build = (REPOSITORY / "build-image.sh", "--help")
    launcher = ("python3", "-I", REPOSITORY / "bin/ramos", "image", "build", "--help")
    for words in (build, launcher):
        done = elsewhere.run(*words, PYTHONPATH=str(elsewhere.folder / "path"))
        assert done.returncode == 0, done.stderr
        assert "--profile" in done.stdout
    assert not (elsewhere.folder / "planted").exists()
    assert (REPOSITORY / "bin/ramos").read_text().startswith("#!/usr/bin/python3 -I\n")


def test_a_launcher_is_installed_when_asked_for_only(elsewhere: Elsewhere) -> None:
    build, place = REPOSITORY / "build-image.sh", elsewhere.prefix / "bin/ramos"
    done = elsewhere.run(build, "--batch", "--plan", "--base", "debian", "--mirror", "ftp://x")
    assert str(REPOSITORY / "bin/ramos") in done.stderr.splitlines()[0]
    assert not place.exists()
    assert elsewhere.run(build, "--install-launcher").returncode == 0
    assert "image" in elsewhere.run("python3", "-I", place, "--help").stdout
    assert elsewhere.run(build, "--install-launcher", "--help").returncode == 0
    place.unlink()
    place.write_text("somebody else's\n")
    assert elsewhere.run(build, "--install-launcher").returncode == 1
    assert place.read_text() == "somebody else's\n"


@pytest.mark.parametrize("module", ["click", "psutil", "pyudev", "pyroute2", "sdnotify"])
def test_other_systems_are_told_every_module(elsewhere: Elsewhere, module: str) -> None:
    script = elsewhere.programs / "python3"
    hide = f'import sys; sys.modules["{module}"] = None; exec(sys.argv.pop(1))'
    # An interpreter in which the module cannot be found.
    script.write_text(
        f'#!/bin/sh\n[ "$2" = -c ] && shift 2 && exec "{sys.executable}" -I -c \'{hide}\' "$@"\n'
    )
    done = elsewhere.run(REPOSITORY / "build-image.sh", "--help")
    assert done.returncode == 1
    assert module in done.stderr.splitlines()[0]


@pytest.mark.parametrize("module", ["click", "pyroute2"])
def test_a_missing_module_is_one_line(elsewhere: Elsewhere, module: str) -> None:
    done = elsewhere.run("python3", "-I", "-c", WITHOUT, module, str(REPOSITORY), "--help")
    assert done.returncode == 1
    assert PACKAGES[module][0] in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_benchmark_names_a_missing_program(elsewhere: Elsewhere) -> None:
    done = elsewhere.run("python3", "-m", "bench.commit", PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 2
    assert "needs root" in done.stderr or "rsync (package rsync)" in done.stderr
