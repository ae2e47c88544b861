"""The apk wrapper: ordinary operations pass through untouched, special ones go to the engine."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.labs.harness import SHELLS, move_places

WRAPPER = Path(__file__).resolve().parents[3] / "apk-triggers/alpine/apk"
PATTERNS = "linux-lts\nlinux-firmware-* !linux-firmware-odd\ngrub\n"
FAKE = """#!/bin/sh
case " $* " in
*" --simulate "*" puller "*) echo "(1/2) Installing linux-firmware-x (1-r0)"; exit 0 ;;
*" --simulate "*) [ "$1" = upgrade ] || exit 0 ;;
esac
printf '%s' "{name}" >>"$CALLS"
for word in "$@"; do printf ' [%s]' "$word" >>"$CALLS"; done
echo >>"$CALLS"
exit "${{STATUS_{name}:-0}}"
"""


@dataclass
class Bench:
    folder: Path
    shell: str

    def run(
        self, *words: str, environment: dict[str, str] | None = None, **status: int
    ) -> tuple[int, list[str]]:
        """Call the wrapper; its exit status, and what it called."""
        calls = self.folder / "calls"
        calls.write_text("")
        env = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "CALLS": str(calls),
            **{f"STATUS_{name}": str(value) for name, value in status.items()},
            **(environment or {}),
        }
        argv = [*SHELLS[self.shell], str(self.folder / "apk"), *words]
        done = subprocess.run(argv, env=env, capture_output=True, check=False)
        assert done.stderr == b""
        return done.returncode, calls.read_text().splitlines()


@pytest.fixture(params=SHELLS)
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    for name in ("realapk", "ramos"):
        (tmp_path / name).write_text(FAKE.format(name=name))
        (tmp_path / name).chmod(0o755)
    (tmp_path / "special").write_text(PATTERNS)
    (tmp_path / "world").write_text("linux-firmware-x@ramos\nhtop<4\n!nano\n")
    places = {"REAL": "realapk", "PATTERNS": "special", "WORLD": "world", "PULLERS": "pullers"}
    moved = {name: tmp_path / place for name, place in places.items()}
    (tmp_path / "apk").write_text(
        move_places(WRAPPER, LIBRARY=WRAPPER.parents[1] / "special.sh", **moved)
    )
    return Bench(tmp_path, request.param)


@pytest.mark.parametrize(
    "words",
    [
        ["update"],
        ["info", "-L", "linux-lts"],
        ["add", "htop", "a b", "-t", "linux-lts"],
        ["add", "linux-firmware-odd"],
        ["add", "--root", "/mnt", "linux-lts"],
        ["-p", "/mnt", "upgrade"],
        ["add", "-qp", "/mnt", "linux-lts"],
        ["add", "-h", "linux-lts"],
        ["add", "-t", "linux-lts", "htop"],
        ["upgrade", "--self-upgrade-only"],
        ["del", "htop"],
        ["fix"],
        ["fix", "linux-lts"],
        ["fetch", "-s", "linux-lts"],
        ["--version"],
        [],
        ["add", "!grub"],
    ],
)
def test_ordinary_operations_pass_through(bench: Bench, words: list[str]) -> None:
    expected = "realapk" + "".join(f" [{word}]" for word in words)
    assert bench.run(*words) == (0, [expected])
    assert bench.run(*words, realapk=99) == (99, [expected])


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        (["add", "linux-lts"], ["ramos [pkg] [add] [linux-lts]"]),
        (
            ["add", "-U", "linux-lts", "htop"],
            ["ramos [pkg] [add] [linux-lts]", "realapk [add] [-U] [htop]"],
        ),
        (["add", "linux-lts=6.1-r0", "grub"], ["ramos [pkg] [add] [linux-lts=6.1-r0] [grub]"]),
        (["add", "-t", "grub", "grub"], ["ramos [pkg] [add] [grub]"]),
        (["add", "-Xhosts", "grub"], ["ramos [pkg] [add] [grub]"]),
        (["add", "--", "grub"], ["ramos [pkg] [add] [grub]"]),
        (
            ["add", "puller"],
            ["ramos [pkg] [add] [linux-firmware-x]", "realapk [add] [puller]"],
        ),
        (["del", "linux-lts"], ["ramos [pkg] [remove] [linux-lts]"]),
        (
            ["del", "grub", "htop"],
            ["ramos [pkg] [remove] [grub] [--also=htop]", "realapk [del] [htop]"],
        ),
        (["upgrade"], ["ramos [pkg] [upgrade]", "realapk [upgrade]"]),
        (["upgrade", "-a"], ["ramos [pkg] [upgrade]", "realapk [upgrade] [-a]"]),
        (["upgrade", "linux-lts"], ["ramos [pkg] [upgrade] [linux-lts]"]),
        (["upgrade", "htop"], ["realapk [upgrade] [htop]"]),
        (["upgrade", "--ignore", "grub"], ["realapk [upgrade] [--ignore] [grub]"]),
        (
            ["upgrade", "--ignore", "htop"],
            ["ramos [pkg] [upgrade]", "realapk [upgrade] [--ignore] [htop]"],
        ),
        (["add", "--simulate", "linux-lts"], ["ramos [pkg] [explain] [linux-lts]"]),
        (["upgrade", "--simulate"], ["ramos [pkg] [check]", "realapk [upgrade] [--simulate]"]),
        (["del", "-s", "grub"], ["ramos [pkg] [explain] [grub]"]),
    ],
)
def test_special_operations_go_to_the_engine(
    bench: Bench, words: list[str], calls: list[str]
) -> None:
    assert bench.run(*words) == (0, calls)


def test_what_came_with_the_image_is_not_fixed_by_the_real_apk(bench: Bench) -> None:
    world = bench.folder / "world"
    world.write_text(world.read_text() + "grub\nlinux-lts\n")
    others = "[linux-firmware-x] [htop]"
    assert bench.run("fix") == (0, [f"realapk [fix] {others}"])
    assert bench.run("fix", "-u") == (0, [f"realapk [fix] [-u] {others}"])
    assert bench.run("fix", "linux-firmware-x") == (0, ["realapk [fix] [linux-firmware-x]"])
    expected = ["ramos [pkg] [add] [linux-lts]", "realapk [fix] [-r] [linux-firmware-x]"]
    assert bench.run("fix", "-r", "linux-lts", "linux-firmware-x") == (0, expected)
    assert bench.run("fix", "grub") == (0, ["ramos [pkg] [add] [grub]"])


def test_a_failing_engine_stops_everything(bench: Bench) -> None:
    for words in (["add", "linux-lts", "htop"], ["del", "grub", "htop"], ["upgrade"]):
        status, calls = bench.run(*words, ramos=4)
        assert status == 4
        assert len(calls) == 1


def test_without_patterns_everything_is_ordinary(bench: Bench) -> None:
    (bench.folder / "special").unlink()
    assert bench.run("add", "linux-lts") == (0, ["realapk [add] [linux-lts]"])


def test_a_hostile_environment_changes_nothing(bench: Bench) -> None:
    trap = bench.folder / "trap"
    trap.write_text('#!/bin/sh\necho "trap $*" >>"$CALLS"\n')
    trap.chmod(0o755)
    text = WRAPPER.read_text()
    names = {*re.findall(r"\b([A-Z][A-Z_]+)=", text), *re.findall(r"\$\{?(\w+)", text)}
    given = {f"RAMOS_{word}" for word in ("REAL_APK", "SPECIAL", "PULLERS", "WORLD", "TRIGGERS")}
    hostile = {name: str(trap) for name in names | given if not name.isdigit()}
    hostile |= {"ENV": str(trap), "BASH_ENV": str(trap), "IFS": "/"}
    assert len(hostile) > 30
    for words, calls in (
        (["add", "linux-lts", "htop"], ["ramos [pkg] [add] [linux-lts]", "realapk [add] [htop]"]),
        (["del", "grub"], ["ramos [pkg] [remove] [grub]"]),
        (["upgrade"], ["ramos [pkg] [upgrade]", "realapk [upgrade]"]),
        (["add", "htop"], ["realapk [add] [htop]"]),
        (["fix"], ["realapk [fix]"]),
        (["info"], ["realapk [info]"]),
    ):
        assert bench.run(*words, environment=hostile) == (0, calls)
