"""The commit hook of apk: what it asks when apk was called past the wrapper, and refuses."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.labs.harness import SHELLS, move_places

HOOK = REPOSITORY / "apk-triggers/alpine/commit-hook"
PATTERNS = "linux-lts\nlinux-firmware-* !linux-firmware-odd\n"
# It changes what it is named, and puts a question first.
FAKE = """#!/bin/sh
read -r answer && [ "$answer" = y ] || exit 1
printf '[%s]' "$@" >"{calls}"
for name in "$@"; do
    case $name in -* | add | "a b") continue ;; esac
    echo "(1/2) Upgrading $name (1-r0 -> 2-r0)"
done
"""


def call(shell: str, home: Path, *words: str) -> tuple[int, str]:
    """Its exit status and what it says, where apk was called like this."""
    calls = home / "calls"
    calls.write_text("")
    (home / "realapk").write_text(FAKE.format(calls=calls))
    (home / "realapk").chmod(0o755)
    (home / "special").write_text(PATTERNS)
    (home / "boot").touch()
    places = {"REAL": "realapk", "PATTERNS": "special", "BOOT": "boot"}
    moved = {name: home / place for name, place in places.items()}
    special = REPOSITORY / "apk-triggers/special.sh"
    (home / "hook").write_text(move_places(HOOK, **moved, SPECIAL=special))
    argv = [*SHELLS[shell], str(home / "hook"), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["linux-lts", "linux-firmware-x", "linux-lts@edge"])
def test_special_packages_are_refused(shell: str, name: str, tmp_path: Path) -> None:
    status, said = call(shell, tmp_path, "called", "/sbin/apk", "add", "htop", name)
    assert status == 1
    first, hint = said.splitlines()
    name = name.partition("@")[0]
    assert first.endswith(f": {name} belongs to the stick, not into the RAM. Nothing was changed.")
    assert "call apk by its name" in hint


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("program", [["apk"], ["../sbin/apk"], ["/lib/ld.so", "--x", "/sbin/apk"]])
def test_others_are_none_of_its_business(shell: str, program: list[str], tmp_path: Path) -> None:
    words = ["add", "htop", "a b", "linux-firmware-odd"]
    assert call(shell, tmp_path, "called", *program, *words) == (0, "")
    asked = (tmp_path / "calls").read_text()
    assert asked.endswith("[add][htop][a b][linux-firmware-odd]")
    assert "[--simulate][--no-commit-hooks]" in asked, "it does not ask itself"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("words", [["/usr/bin/shop", "update"], ["apk"], ["apk", "add"]])
def test_who_cannot_be_asked_is_refused(shell: str, words: list[str], tmp_path: Path) -> None:
    status, said = call(shell, tmp_path, "called", *words)
    assert (status, f"nobody can tell what {words[0]} would change" in said) == (1, True)


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_done_already_is_not_asked_about(shell: str, tmp_path: Path) -> None:
    assert call(shell, tmp_path, "post-commit") == (0, "")
    assert (tmp_path / "calls").read_text() == ""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("absent", ["boot", "special"])
def test_where_no_ramos_runs_nothing_is_asked(shell: str, absent: str, tmp_path: Path) -> None:
    """In an image that is being built, or in a chroot of a rescuer's, apk does as it would."""
    call(shell, tmp_path, "called", "/sbin/apk", "add", "htop")
    (tmp_path / "calls").write_text("")
    (tmp_path / absent).unlink()
    argv = [*SHELLS[shell], str(tmp_path / "hook"), "pre-commit"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "calls").read_text() == ""
