"""What a person sees first: the lines above the prompt, and the greeting of a login shell."""

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ramos.daemon.status import TORAM_WORDS, RuntimeStatus, describe_status
from ramos.layout import find_data

# Why the images are not in RAM; what follows is the same for who reads the greeting.
KNOWN_TO_STATUS_ALONE = {(word, "off") for word in ("running", "waiting", "failed", "too large")}
# With manuals, as in the profile rescue, and without.
HELP = {True: "'man ramos', 'man -k ramos'", False: "'ramos --help'"}
UNSAVED = "what is unsaved: 'ramos status'."
SHELLS = (("dash",), ("busybox", "ash"), ("bash",))
SCRIPT = find_data("services") / "login/ramos.sh"
AFTER = '; echo "then $(type ramos_greet >/dev/null 2>&1 && echo left || echo gone) $PATH"'


def place_script(run_dir: Path) -> Path:
    """The script, for a boot whose state lies in `run_dir`."""
    script = run_dir / "ramos.sh"
    script.write_text(SCRIPT.read_text().replace("/run/ramos /)", f"{run_dir} /)"))
    return script


def make_environment(home: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(home)}


def greet(run_dir: Path, shell: tuple[str, ...], prefix: str = "", flags: str = "-ic") -> str:
    """What the script prints on a terminal, with the state of a boot in `run_dir`."""
    script = place_script(run_dir)
    ours, theirs = pty.openpty()
    argv = [*shell, flags, f"{prefix}. {script}{AFTER}"]
    # Interactive shells complain that the terminal is not theirs.
    subprocess.run(
        argv, stdout=theirs, stderr=subprocess.DEVNULL, check=True, env=make_environment(run_dir)
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
        while part := terminal.read(65536):  # a terminal that nobody holds any more is an error
            said += part
    # BusyBox says what it is before it does anything.
    return said.decode().replace("\r", "").rpartition("built-in commands.\n\n")[2]


def write_age(run_dir: Path, seconds: int) -> None:
    created = int(time.time()) - seconds
    (run_dir / "generation").write_text(f"ramos-generation=1\ncreated={created}\n")


def write_boot(run_dir: Path, mode: str, number: int) -> None:
    (run_dir / "boot").write_text(f"mode={mode}\ngeneration={number}\n")


@pytest.mark.parametrize("shell", SHELLS, ids="-".join)
def test_greeting_says_what_runs_and_how_to_save(tmp_path: Path, shell: tuple[str, ...]) -> None:
    write_boot(tmp_path, "default", 7)
    write_age(tmp_path, 3 * 86400 + 50)
    (tmp_path / "motd").write_text("RAMOS: the ESP was repaired\n")
    (tmp_path / "ramosd.failed").write_text("ramosd does not run\n")
    lines = greet(tmp_path, shell).splitlines()
    assert lines[0] == "RAMOS, mode default: generation 7, saved 3 days ago."
    assert lines[1].endswith("leave it in.")
    unsaved = r"Unsaved in your home: \w+( files?)?; all changes: \d+ of \d+ MiB\."
    assert re.fullmatch(unsaved, lines[2])
    assert lines[3] == "'ramos commit' saves, and so does a shutdown."
    assert re.fullmatch(r"Network: (none yet|[\d.]+ on \w+).*\.", lines[4])
    assert lines[5] == f"Help: {HELP[bool(shutil.which('man', path='/usr/bin:/bin'))]}; {UNSAVED}"
    assert lines[-3:-1] == ["RAMOS: the ESP was repaired", "ramosd does not run"]
    assert lines[-1] == "then gone /usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
    assert len(lines) == 6 + 2 + 1, "six lines of our own"
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize("shell", SHELLS, ids="-".join)
def test_greeting_of_a_clean_boot_in_ram(tmp_path: Path, shell: tuple[str, ...]) -> None:
    write_boot(tmp_path, "clean", 0)
    (tmp_path / "in-ram").touch()
    said = greet(tmp_path, shell)
    assert "mode clean: nothing saved is loaded." in said
    assert "The stick can be pulled out" in said
    assert "Nothing will be saved in this mode.\n" in said


@pytest.mark.parametrize("swapfile", ["off", "on"])
@pytest.mark.parametrize("word", TORAM_WORDS)
def test_greeting_and_status_say_the_same_of_what_is_in_ram(
    tmp_path: Path, word: str, swapfile: str
) -> None:
    write_boot(tmp_path, "default", 7)
    (tmp_path / "ramosd.json").write_text(json.dumps({"swapfile": swapfile, "toram": word}))
    if word == "done":
        (tmp_path / "in-ram").touch()
    known = RuntimeStatus(True, "present", swapfile, 0, 5, 0, word, False, 0, (), ())
    status = dict(describe_status(known))["in RAM"]
    greeting = greet(tmp_path, ("dash",)).splitlines()[1].removeprefix("In RAM: ")
    if (word, swapfile) in KNOWN_TO_STATUS_ALONE:
        assert status.partition(".")[0] == greeting.partition(".")[0]
    else:
        assert status == greeting


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        *((10, "just now"), (150, "2 minutes ago"), (8000, "2 hours ago")),
        *((172800, "2 days ago"), (-5000, "by a clock that was ahead")),
    ],
)
def test_greeting_says_how_old_the_generation_is(tmp_path: Path, seconds: int, age: str) -> None:
    write_boot(tmp_path, "backup", 3)
    write_age(tmp_path, seconds)
    assert f"mode backup: generation 3, saved {age}.\n" in greet(tmp_path, ("dash",))


@pytest.mark.parametrize("shell", SHELLS, ids="-".join)
def test_greeting_counts_what_is_unsaved_in_the_home(
    tmp_path: Path, shell: tuple[str, ...]
) -> None:
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    (home / "old").touch()
    write_boot(tmp_path, "default", 3)
    now = time.time()
    for name, age in (("home/old", 90), ("boot", 60)):
        os.utime(tmp_path / name, (now - age, now - age))
    assert "home: nothing;" in greet(tmp_path, shell, f"HOME={home}; ")
    (home / "new").touch()
    assert "home: 1 file;" in greet(tmp_path, shell, f"HOME={home}; ")
    (home / "folder/newer").touch()
    assert "home: 2 files;" in greet(tmp_path, shell, f"HOME={home}; ")
    (tmp_path / "saved").touch()
    assert "home: nothing;" in greet(tmp_path, shell, f"HOME={home}; "), "a save has them"
    assert "home: see 'ramos status';" in greet(tmp_path, shell, f"HOME={home}/nowhere; ")


@pytest.mark.parametrize("created", ["", "soon", "$(touch x)", "1;2"])
def test_greeting_of_a_time_that_is_none(tmp_path: Path, created: str) -> None:
    write_boot(tmp_path, "default", 3)
    (tmp_path / "generation").write_text(f"created={created}\n")
    assert "mode default: generation 3.\n" in greet(tmp_path, ("dash",))


@pytest.mark.parametrize(
    ("program", "hint"),
    [("nmtui", "'nmtui' joins a Wi-Fi network"), ("wpa_supplicant", "'man ramos', under WI-FI")],
)
def test_greeting_names_the_network(tmp_path: Path, program: str, hint: str) -> None:
    write_boot(tmp_path, "default", 3)
    programs = {
        "ip": "echo '2: eth0    inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0'",
        program: "",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    said = greet(tmp_path, ("dash",), f"PATH={tmp_path}:$PATH; ")
    assert re.search(rf"Network: 10\.0\.2\.15 on eth0; .*{hint}\.\n", said), said


@pytest.mark.parametrize("shell", SHELLS, ids="-".join)
def test_greeting_comes_once_and_only_on_ramos(tmp_path: Path, shell: tuple[str, ...]) -> None:
    assert greet(tmp_path, shell).startswith("then gone"), "there is no boot file"
    write_boot(tmp_path, "default", 7)
    assert greet(tmp_path, shell, "RAMOS_GREETED=1; ").startswith("then gone")
    assert greet(tmp_path, shell, flags="-c").startswith("then gone"), "nobody types there"


@pytest.mark.parametrize("shell", SHELLS, ids="-".join)
def test_greeting_goes_to_terminals_alone(tmp_path: Path, shell: tuple[str, ...]) -> None:
    write_boot(tmp_path, "default", 7)
    place_script(tmp_path)
    argv = [*shell, "-ic", f". {tmp_path}/ramos.sh{AFTER}"]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, env=make_environment(tmp_path)
    )
    assert "RAMOS" not in done.stdout
    assert "then gone" in done.stdout


def test_greeting_names_no_manual_where_there_is_none(tmp_path: Path) -> None:
    write_boot(tmp_path, "default", 7)
    for program in ("date", "df", "find", "grep", "head", "ip", "sed", "tail", "timeout", "wc"):
        (tmp_path / program).symlink_to(shutil.which(program) or "/bin/false")
    for has_manuals in (False, True):
        if has_manuals:
            (tmp_path / "man").symlink_to("/bin/true")
        said = greet(tmp_path, ("dash",), f"PATH={tmp_path}; ")
        assert f"Help: {HELP[has_manuals]}; {UNSAVED}\n" in said
