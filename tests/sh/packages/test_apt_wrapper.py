"""The apt wrapper: which words go to the engine, which to the real apt, and what ends it."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.labs.harness import move_places

TRIGGERS = Path(__file__).resolve().parents[3] / "apk-triggers"
WRAPPER = TRIGGERS / "debian/apt"
PATTERNS = "linux-*\nfirmware-* !firmware-odd\ngrub-pc\n"
INSTALLED = "linux-1 firmware-x"
# A program that says how it was called. The real apt is stopped by the hook as often as a file
# says, for what another file says.
FAKE = """#!/bin/sh
case ${0##*/} in
dpkg)
    [ "$1" = --purge ] || { echo amd64; exit; }
    ;;
dpkg-query)
    case " $INSTALLED " in *" $4 "*) [ -e "$FOLDER/removed" ] && echo "rc " || echo "ii " ;; esac
    exit
    ;;
apt-config) echo "YES='${CONFIGURED:-false}'"; exit ;;
apt-cache) case $3 in
    */backports) printf 'Package: x\\nVersion: 9~bpo\\nVersion: 8\\n' ;;
    esac; exit ;;
esac
printf '%s' "${0##*/}" >>"$CALLS"
for word in "$@"; do printf ' [%s]' "$word" >>"$CALLS"; done
echo >>"$CALLS"
case ${0##*/} in
ramos)
    [ -z "${LEAVES-}" ] || : >"$FOLDER/removed"
    exit "${STATUS_ramos:-0}"
    ;;
dpkg) exit "${STATUS_dpkg:-0}" ;;
esac
if [ -n "${STOPPED-}" ] && [ -n "${RAMOS_APT_REFUSED-}" ]; then
    printf "$STOPPED" >"$FOLDER/refused.$RAMOS_APT_REFUSED"
    exit 100
fi
exit "${STATUS_apt:-0}"
"""
PROGRAMS = ("apt", "apt-get", "apt-cache", "apt-config", "dpkg", "dpkg-query", "ramos")


@dataclass
class Bench:
    folder: Path
    shell: tuple[str, ...]
    said: str = ""

    def run(
        self, line: str, name: str = "apt", environment: dict[str, str] | None = None, **env: str
    ) -> tuple[int, list[str]]:
        """Call the wrapper; its exit status, and what it called."""
        calls = self.folder / "calls"
        calls.write_text("")
        variables = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FOLDER": str(self.folder),
            "CALLS": str(calls),
            "INSTALLED": INSTALLED,
            **env,
            **(environment or {}),
        }
        argv = [*self.shell, str(self.folder / "sbin" / name), *line.split()]
        done = subprocess.run(argv, env=variables, capture_output=True, text=True, check=False)
        self.said = done.stderr
        assert not list(self.folder.glob("refused*"))
        return done.returncode, calls.read_text().splitlines()


@pytest.fixture(params=[("dash",), ("busybox", "sh")], ids=["dash", "busybox"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    (tmp_path / "bin").mkdir()
    (tmp_path / "sbin").mkdir()
    for name in PROGRAMS:
        (tmp_path / "bin" / name).write_text(FAKE)
        (tmp_path / "bin" / name).chmod(0o755)
    places = {"PROGRAMS": "bin", "PATTERNS": "special", "REFUSED": "refused"}
    moved = {name: tmp_path / place for name, place in places.items()}
    text = move_places(WRAPPER, LIBRARY=TRIGGERS / "special.sh", **moved)
    for name in ("apt", "apt-get"):
        (tmp_path / "sbin" / name).write_text(text)
    (tmp_path / "special").write_text(PATTERNS)
    return Bench(tmp_path, request.param)


def show_call(program: str, line: str) -> str:
    return program + "".join(f" [{word}]" for word in line.split())


ORDINARY = (
    *("", "update", "list linux-1", "show firmware-x", "--version", "-h install grub-pc"),
    *("install htop", "install -y -q htop tree", "-y install htop", "-qq -o A=B install htop"),
    *("install -t linux-1 htop", "install firmware-odd", "install -- htop -odd"),
    *("remove htop", "autoremove", "autoremove --purge -y", "purge 'linux-*'"),
    # not installed: nothing for the engine to remove
    *("remove linux-2", "purge grub-pc", "install grub-pc-"),
    # another architecture, a pattern, a file, another root, another meaning, another spelling
    *("install linux-1:arm64", "install linux-*", "install ./linux-1.deb"),
    *("install linux-1.deb", "install -o Dir=/mnt grub-pc", "upgrade -oRootDir=/mnt"),
    *("install -o dpkg::options::=--root=/mnt grub-pc", "install -c file grub-pc"),
    *("install --config-file=x grub-pc", "upgrade -d", "upgrade -yd", "upgrade --print-uris"),
    *("upgrade --download-only", "upgrade -o APT::Get::Simulate=1", "install --YES grub-pc"),
    *("install --no-simulate grub-pc", "install -y no grub-pc", "install --bogus grub-pc"),
    *("install -Z grub-pc", "upgrade -o A= B", "install -t", "install -t -y grub-pc"),
    *("install -q=x grub-pc", "install --simulate=no grub-pc", "reinstall linux-1"),
    *("install --reinstall linux-1 htop", "install linux-1 --reinstall"),
    *("build-dep linux-1", "download linux-1", "source linux-1"),
)


@pytest.mark.parametrize("line", ORDINARY)
def test_ordinary_operations_pass_through(bench: Bench, line: str) -> None:
    assert bench.run(line) == (0, [show_call("apt", line)])
    assert bench.said == ""
    assert bench.run(line, "apt-get", STATUS_apt="99") == (99, [show_call("apt-get", line)])


# The words, and what is called for them.
SPECIAL = """
install grub-pc | ramos pkg add grub-pc
install -yqq grub-pc htop | ramos pkg add grub-pc | apt install -yqq htop
-o=A=B install grub-pc=2-1 --no-install-recommends | ramos pkg add grub-pc=2-1
install linux-3:amd64=6.1 htop:i386 | ramos pkg add linux-3=6.1 | apt install htop:i386
install linux-3/backports | ramos pkg add linux-3=9~bpo
install -tbackports linux-3 htop | ramos pkg add linux-3=9~bpo | apt install -tbackports htop
install --target-release=other grub-pc | ramos pkg add grub-pc
install -- grub-pc | ramos pkg add grub-pc
install -q 2 grub-pc | ramos pkg add grub-pc
install -y linux-2 linux-1- | ramos pkg add linux-2 | ramos pkg remove linux-1
remove -y linux-1 htop | ramos pkg remove --also=htop linux-1 | apt remove -y htop
remove linux-1 | ramos pkg remove --ask linux-1
purge -qq linux-1:native linux-2 | ramos pkg remove linux-1 | apt purge -qq linux-2
remove -y grub-pc+ | ramos pkg add grub-pc
autoremove -y linux-1 | ramos pkg remove linux-1 | apt autoremove -y
install --only-upgrade linux-1 | ramos pkg add linux-1
install linux-3 --only-upgrade htop | apt install --only-upgrade htop
upgrade | ramos pkg upgrade --ask | apt upgrade
-y full-upgrade | ramos pkg upgrade | apt -y full-upgrade
dist-upgrade -q=2 | ramos pkg upgrade | apt dist-upgrade -q=2
-o APT::Get::Assume-Yes=true upgrade | ramos pkg upgrade | apt -o APT::Get::Assume-Yes=true upgrade
upgrade -y htop grub-pc | ramos pkg upgrade | ramos pkg add grub-pc | apt upgrade -y htop
upgrade -s | ramos pkg check | apt upgrade -s
upgrade --assume-no | ramos pkg check | apt upgrade --assume-no
install --dry-run grub-pc=1 htop | ramos pkg explain grub-pc | apt install --dry-run htop
purge -sy linux-1 | ramos pkg explain linux-1
"""


@pytest.mark.parametrize("case", SPECIAL.strip("\n").split("\n"))
def test_special_operations_go_to_the_engine(bench: Bench, case: str) -> None:
    line, *calls = case.split(" | ")
    expected = [show_call(*call.split(" ", 1)) for call in calls]
    assert bench.run(line) == (0, expected)


def test_a_failing_engine_stops_everything(bench: Bench) -> None:
    for line in ("install grub-pc htop", "remove -y linux-1 htop", "upgrade"):
        status, calls = bench.run(line, STATUS_ramos="4", STATUS_apt="9")
        assert (status, len(calls)) == (4, 1)
        assert "stops here, before any ordinary package" in bench.said


def test_a_release_that_nobody_has(bench: Bench) -> None:
    assert bench.run("install grub-pc/nowhere htop") == (100, [])
    assert "release 'nowhere' has none" in bench.said


def test_who_is_asked_nothing(bench: Bench) -> None:
    calls = [show_call("ramos", "pkg upgrade"), show_call("apt", "upgrade")]
    assert bench.run("upgrade", CONFIGURED="true") == (0, calls)


def test_who_gets_the_real_program_at_once(bench: Bench) -> None:
    engine = "-o RAMOS::Engine=true install grub-pc"
    assert bench.run(engine) == (0, [show_call("apt", engine)])
    expected = [show_call("apt", "install grub-pc")]
    assert bench.run("install grub-pc", environment={"RAMOS_ENGINE": "1"}) != (0, expected)
    assert bench.run("install grub-pc", environment={"APT_CONFIG": "/x"}) == (0, expected)
    (bench.folder / "special").unlink()
    assert bench.run("install grub-pc") == (0, expected)


def test_a_hostile_environment_changes_nothing(bench: Bench) -> None:
    trap = bench.folder / "trap"
    trap.mkdir()
    for name in (*PROGRAMS, "special.sh"):
        (trap / name).write_text('#!/bin/sh\necho "trap $*" >>"$CALLS"\n')
        (trap / name).chmod(0o755)
    text = WRAPPER.read_text()
    names = {*re.findall(r"\b([A-Z][A-Z_]+)=", text), *re.findall(r"\$\{?(\w+)", text)}
    given = {f"RAMOS_{word}" for word in ("REAL_APT_DIR", "SPECIAL", "TRIGGERS", "REFUSED")}
    allowed = {"APT_CONFIG"}  # it only makes the real program run at once
    hostile = {name: str(trap) for name in (names | given) - allowed if not name.isdigit()}
    hostile |= {"ENV": str(trap / "apt"), "BASH_ENV": str(trap / "apt"), "IFS": "/"}
    assert len(hostile) > 30
    for case in SPECIAL.strip("\n").split("\n"):
        line, *calls = case.split(" | ")
        expected = [show_call(*call.split(" ", 1)) for call in calls]
        assert bench.run(line, environment=hostile) == (0, expected)
    stopped = "add grub-pc\\n"
    first, again = show_call("apt", "install htop"), show_call("apt", "-y install htop")
    expected = [first, show_call("ramos", "pkg add grub-pc"), again]
    assert bench.run("install htop", environment=hostile, STOPPED=stopped) == (0, expected)


def test_what_the_hook_stopped_is_brought_once(bench: Bench) -> None:
    """The second start has no file for the hook: what is stopped then is told to the user."""
    words = "install -t backports htop"
    first, again = show_call("apt", words), show_call("apt", f"-y {words}")
    stopped = "add firmware-y\\nremove linux-1\\n"
    calls = [
        first,
        show_call("ramos", "pkg add firmware-y=9~bpo"),
        show_call("ramos", "pkg remove linux-1"),
        again,
    ]
    assert bench.run(words, STOPPED=stopped) == (0, calls)
    assert bench.run(words, STOPPED=stopped, STATUS_apt="100") == (100, calls)
    assert bench.run(words, STOPPED=stopped, STATUS_ramos="3") == (3, calls[:2])


@pytest.mark.parametrize(
    "garbage", ["", "\\n", "add\\n", "add htop\\n", "add $(x)\\n", "drop grub-pc\\n", "\\200\\n"]
)
def test_garbage_from_the_hook_brings_nothing(bench: Bench, garbage: str) -> None:
    call = show_call("apt", "install htop")
    assert bench.run("install htop", STOPPED=garbage or "\\n") == (100, [call])


def test_a_key_that_interrupts_the_real_program_interrupts_the_wrapper(bench: Bench) -> None:
    (bench.folder / "bin/apt").write_text("#!/bin/sh\nkill -INT $$\n")
    assert bench.run("install htop") == (-2, [])


@pytest.mark.parametrize("leaves", [False, True])
def test_a_purge_takes_the_configuration_that_a_removal_leaves(bench: Bench, leaves: bool) -> None:
    calls = [show_call("ramos", "pkg remove linux-1")]
    if leaves:
        calls.append(show_call("dpkg", "--purge linux-1"))
    env = {"LEAVES": "1"} if leaves else {}
    assert bench.run("purge -y linux-1", environment=env) == (0, calls)
    (bench.folder / "removed").unlink(missing_ok=True)
    assert bench.run("purge -y linux-1", environment=env, STATUS_dpkg="2")[0] == (
        2 if leaves else 0
    )


@pytest.mark.parametrize("words", ["-s install htop", "install ./htop.deb"])
def test_what_only_looks_and_what_is_in_a_file_brings_nothing(bench: Bench, words: str) -> None:
    """No mirror need have what is in a file, and a simulation changes nothing."""
    assert bench.run(words, STOPPED="add grub-pc\\n") == (0, [show_call("apt", words)])
