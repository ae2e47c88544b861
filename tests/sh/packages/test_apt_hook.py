"""The hook of apt: which files of special packages it lets pass, and where it writes."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.labs.harness import SHELLS

TRIGGERS = Path(__file__).resolve().parents[3] / "apk-triggers"
OURS = b"a package of the stick, whatever fields it has: Ramos-Recipe: linux\n"


@dataclass
class Bench:
    folder: Path
    shell: str
    said: str = ""

    @property
    def repository(self) -> Path:
        return self.folder / "persist/packages/debian"

    def offer(self, path: Path | str, name: str = "linux-1", *config: str, **env: str) -> int:
        """What the hook says when apt is about to unpack a file."""
        lines = ("VERSION 3", "APT::Architecture=amd64", *config, "")
        package = f"{name} - - none < 1 amd64 none {path}"
        program = TRIGGERS / "debian/apt-hook"
        done = subprocess.run(
            [*SHELLS[self.shell], program, self.folder / "special", self.repository],
            input="\n".join([*lines, package, ""]),
            env={"PATH": os.environ["PATH"]} | env,
            capture_output=True,
            text=True,
            check=False,
        )
        self.said = done.stderr
        return done.returncode


@pytest.fixture(params=SHELLS)
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    made = Bench(tmp_path, request.param)
    made.repository.mkdir(parents=True)
    (tmp_path / "special").write_text("linux-*\n")
    (made.repository / "linux-1.deb").write_bytes(OURS)
    digest = hashlib.sha256(OURS).hexdigest()
    index = f"Package: linux-1\nFilename: linux-1.deb\nSHA256: {digest}\n"
    (made.repository / "Packages").write_text(index)
    return made


def test_a_package_of_the_stick_passes(bench: Bench) -> None:
    assert bench.offer(bench.repository / "linux-1.deb") == 0
    assert bench.offer(bench.repository / "./linux-1.deb") == 0
    assert bench.offer(Path("/nowhere/htop.deb"), "htop") == 0
    assert bench.said == ""


def test_a_hostile_package_that_calls_itself_ours_is_stopped(bench: Bench) -> None:
    outside = bench.folder / "linux-1.deb"
    shutil.copy(bench.repository / "linux-1.deb", outside)
    other = bench.repository / "linux-2.deb"
    other.write_bytes(OURS + b"and a line more\n")
    around = bench.repository / "../../../linux-1.deb"
    for path in (outside, other, around, bench.repository / "absent.deb"):
        assert bench.offer(path) == 1, path
        assert "cannot add: linux-1: special packages must not install as they come" in bench.said
    (bench.repository / "linux-1.deb").write_bytes(b"something else\n")
    assert bench.offer(bench.repository / "linux-1.deb") == 1
    (bench.repository / "Packages").unlink()
    assert bench.offer(other) == 1


def test_only_the_engine_removes(bench: Bench) -> None:
    """It says so to apt, whose settings the hook is told; what the environment says is nothing."""
    tools = bench.folder / "bin"
    tools.mkdir()
    (tools / "dpkg-query").write_text("#!/bin/sh\nprintf '%s' \"$STATUS\"\n")
    (tools / "dpkg-query").chmod(0o755)
    path = {"PATH": f"{tools}:{os.environ['PATH']}"}
    for config, env, status, code in (
        ((), {}, "ii ", 1),
        ((), {"RAMOS_ENGINE": "1", "engine": "1"}, "ii ", 1),
        (("RAMOS::Engine=false",), {}, "ii ", 1),
        (("RAMOS::Engine=true",), {}, "ii ", 0),
        ((), {}, "rc ", 0),
    ):
        told = bench.offer("**REMOVE**", "linux-1", *config, STATUS=status, **env, **path)
        assert (told, "cannot remove: linux-1" in bench.said) == (code, code == 1), (config, env)
    assert bench.offer(Path("/nowhere/x.deb"), "linux-1", "RAMOS::Engine=true") == 1


def test_a_hostile_environment_names_no_file_to_write(bench: Bench) -> None:
    victim = bench.folder / "victim"
    victim.write_text("mine\n")
    for given in (str(victim), f"1/../{victim}", "", "1 2", "*"):
        assert bench.offer(Path("/nowhere/x.deb"), RAMOS_APT_REFUSED=given) == 1
        assert "hint: ramos pkg add linux-1" in bench.said
    assert victim.read_text() == "mine\n"
