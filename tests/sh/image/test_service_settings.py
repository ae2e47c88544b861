"""What OpenRC's services read on Alpine, as its shell reads and uses it."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from ramos.image import alpine_setup
from ramos.image.plan import Plan
from tests.conftest import REPOSITORY
from tests.labs.harness import SHELLS

# openrc-run reads /etc/conf.d/NAME like this, and gives up where it ends with an error.
READ = """
if ! . "$1"; then echo "error loading $1"; exit 1; fi
"""
# The lines of localmount that make one expression of the places to keep.
KEEP = """
IFS="$IFS:"
kept="/|/dev|/dev/.*"
for x in $no_umounts; do kept="$kept|$x"; done
printf %s "^($kept)$"
"""


def read_setting(shell: str, file: Path, script: str) -> str:
    """What the lines print, in the directory in which OpenRC works."""
    argv = [*SHELLS[shell], "-ec", READ + script, "openrc-run", str(file)]
    done = subprocess.run(argv, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """/etc/conf.d of an image, whose deadline is the one of this test."""
    alpine_setup.configure(Plan(base="alpine", output=tmp_path / "x.img", cache=tmp_path), tmp_path)
    killprocs = tmp_path / "etc/conf.d/killprocs"
    text = killprocs.read_text()
    assert "/run/ramos/deadline.pid" in text
    killprocs.write_text(text.replace("/run/ramos", str(tmp_path)))
    return tmp_path / "etc/conf.d"


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_is_unmounted_before_the_save(shell: str, settings: Path) -> None:
    kept = re.compile(read_setting(shell, settings / "localmount", KEEP))
    places = ("/persist", "/run/ramos/upper", "/run/ramos/layers/0", "/mnt", "/media/usb stick")
    assert not [place for place in places if not kept.match(place)]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("pids", "options"), [("", ""), ("41\n", "-o 41"), (None, "")])
def test_processes_are_ended_before_the_save(
    shell: str, settings: Path, pids: str | None, options: str
) -> None:
    """With a deadline on the way down, without one, and with one that is being written."""
    if pids is not None:
        (settings.parents[1] / "deadline.pid").write_text(pids)
    script = 'printf %s "$killall5_opts"'
    assert read_setting(shell, settings / "killprocs", script) == options


SYSTEMD = sorted((REPOSITORY / "services/systemd").glob("*.service"))
OPENRC = sorted((REPOSITORY / "services").glob("openrc*/*"))


@pytest.mark.parametrize("unit", SYSTEMD, ids=lambda path: path.stem)
def test_a_unit_of_systemd_runs_what_openrc_runs(unit: Path) -> None:
    sections = configparser.ConfigParser(interpolation=None, strict=False)
    sections.optionxform = str  # type: ignore[assignment,method-assign]
    sections.read(unit)
    assert sections["Unit"]["Description"].startswith("RAMOS")
    assert sections["Unit"]["Documentation"].startswith("man:ramos")
    words = sections["Service"].get("ExecStart", sections["Service"].get("ExecStop", "")).split()
    assert words[0].startswith(("/usr/bin/ramos", "/usr/sbin/ramosd"))
    other = (REPOSITORY / "services/openrc" / unit.stem).read_text()
    if "keep-ramosd" in other:
        other += (REPOSITORY / "services/keep-ramosd").read_text()
    assert re.search(rf"{words[0]}\b", other)
    assert all(word in other for word in words[1:])


@pytest.mark.parametrize("service", OPENRC, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_service_of_openrc_says_what_it_is(service: Path) -> None:
    assert re.search('^description="RAMOS: [a-z]', service.read_text(), re.MULTILINE)


def test_udev_stands_for_what_others_need() -> None:
    """localmount and fsck come after `dev`, and Debian's own services after `udev`."""
    text = (REPOSITORY / "services/openrc-debian/ramos-udev").read_text()
    assert "\tprovide udev dev\n" in text


@pytest.mark.parametrize("unit", SYSTEMD, ids=lambda path: path.name)
def test_a_unit_that_only_stops_something_is_one_that_systemd_takes(unit: Path) -> None:
    """Without a program to start, systemd refuses every type but one."""
    service = dict(
        line.split("=", 1)
        for line in unit.read_text().partition("[Service]")[2].splitlines()
        if "=" in line and not line.startswith("#")
    )
    if "ExecStart" not in service:
        assert (service["Type"], service["RemainAfterExit"]) == ("oneshot", "yes")


def test_an_interrupted_change_is_ended_under_the_eyes_of_ramosd() -> None:
    """What that watches, the memory above all, is watched by then."""
    unit = (REPOSITORY / "services/systemd/ramos-recover.service").read_text()
    assert "ramosd.service" in re.findall(r"^After=(.+)$", unit, re.MULTILINE)[0].split()
    other = (REPOSITORY / "services/openrc/ramos-recover").read_text()
    assert "ramosd" in re.findall(r"^\tafter (.+)$", other, re.MULTILINE)[0].split()


def test_openrc_saves_when_all_have_ended_and_nothing_is_unmounted() -> None:
    text = (REPOSITORY / "services/openrc/ramos-save").read_text()
    after, before = (
        set(re.findall(rf"^\t{word} (.+)$", text, re.MULTILINE)[0].split())
        for word in ("after", "before")
    )
    assert {"killprocs", "sendsigs"} <= after, "Alpine's service, and Debian's"
    assert {"mount-ro", "umountfs", "umountroot"} <= before


def test_ramosd_has_no_network() -> None:
    lines = (REPOSITORY / "services/systemd/ramosd.service").read_text().split("\n")
    assert "IPAddressDeny=any" in lines
    (families,) = [line for line in lines if line.startswith("RestrictAddressFamilies=")]
    assert "AF_INET" not in families


@pytest.mark.parametrize("service", OPENRC, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_service_that_says_what_it_begins_says_how_that_ended(service: Path) -> None:
    for body in re.findall(r"^\w+\(\) \{\n(.*?)^\}", service.read_text(), re.M | re.S):
        if "ebegin " in body:
            assert re.search(r"^\s*(.*\|\| )?eend ", body.split("ebegin ")[-1], re.MULTILINE)


NETWORK = """
list_cards() { echo card0; echo card1; }
udevadm() { :; }
ebegin() { :; }
eend() { :; }
ip() { echo "ip $*"; }
start
"""


def test_each_card_is_up_before_it_is_asked_for_an_address(tmp_path: Path) -> None:
    program = tmp_path / "start-stop-daemon"
    program.write_text('#!/bin/sh\nshift 8\necho "$*"\n')
    program.chmod(0o755)
    service = REPOSITORY / "services/openrc-debian/ramos-net"
    argv = [*SHELLS["dash"], "-euc", f"PATH={tmp_path}:$PATH\n. {service}\n{NETWORK}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    asked = [[f"ip link set card{n} up", f"-f -i card{n}"] for n in (0, 1)]
    assert done.stdout.split("\n")[:-1] == [*asked[0], *asked[1]]
