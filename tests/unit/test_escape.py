"""Names that hold commands for a terminal are harmless wherever they are shown."""

import json
import os
import pty
import subprocess
import sys
import tty
from dataclasses import replace
from pathlib import Path

import pytest

from ramos.boot import confirm
from ramos.cli.screen import Screen
from ramos.daemon import loop
from ramos.errors import RamosError, escape
from ramos.layout import Places
from ramos.linux import terminals
from ramos.progress import Progress
from ramos.shutdown.order import Consoles
from ramos.store.records import note
from tests.names import HOSTILE, HOSTILE_TEXTS, find_harm

REPOSITORY = Path(__file__).resolve().parents[2]
EVERY_NAME = pytest.mark.parametrize("name", HOSTILE_TEXTS, ids=range(len(HOSTILE)))


def ramos(*words: str, tree: Path | None = None) -> bytes:
    """What the command prints, on both of its outputs; at least one line."""
    done = subprocess.run(
        [sys.executable, "-m", "ramos", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=REPOSITORY,
        env={**os.environ, "RAMOS_TREE": str(tree or "/nonexistent"), "LC_ALL": "C.UTF-8"},
    )
    assert done.stdout
    assert b"Traceback" not in done.stdout
    return done.stdout


@EVERY_NAME
def test_an_escape_in_any_part_of_an_error_is_text(name: str) -> None:
    error = RamosError(name, name, OSError(name), name, name)
    for text in (str(error), error.obj, error.hint, str(RamosError("x", "y", error))):
        assert not find_harm(os.fsencode(text))
        assert "\n" not in text
    assert escape(escape(name)) == escape(name)
    assert escape("größer 日本 \\x1b") == "größer 日本 \\x1b"


@EVERY_NAME
def test_commands_escape_the_names_in_their_errors(name: str, tmp_path: Path) -> None:
    package = tmp_path / f"{name}.deb"
    package.write_bytes(b"no package")
    for words in (
        ("pkg", "explain", str(package)),
        ("vm", "run", str(tmp_path / name)),
        ("restore-file", name, name),
        ("log", name),
        ("--", name),
        (f"--{name}",),
    ):
        assert not find_harm(ramos(*words)), words


@EVERY_NAME
def test_status_escapes_what_the_boot_and_the_records_tell(name: str, tmp_path: Path) -> None:
    places = Places.below(tmp_path)
    for folder in (places.run, places.persist / "upperfs/generations"):
        folder.mkdir(parents=True)
    spoiled = name.replace("\n", " ")
    text = f"mode=default\ngeneration=0\nskipped=000007 {spoiled}\nwarning={spoiled}\n"
    places.boot_file.write_bytes(os.fsencode(text))
    note("failures", places.run / "records", what=name, error=name)
    shown = ramos("status", tree=tmp_path)
    assert not find_harm(shown)
    lines = [line.split()[0] for line in shown.decode().splitlines()]
    assert {"skipped", "warning", "error"} <= set(lines)
    assert "ramos:" not in lines


def test_consoles_and_terminals_get_escaped_messages(tmp_path: Path) -> None:
    file = tmp_path / "console"
    for name in HOSTILE_TEXTS:
        file.write_bytes(b"")
        assert terminals.tell_everyone(name, [file]) == 1
        assert not find_harm(file.read_bytes().replace(b"\r\n", b"\n"))
        for show in (
            Consoles([file]).say,
            lambda text: Consoles([file]).show_progress(Progress(text, 1, 2)),
        ):
            file.write_bytes(b"")
            show(name)
            own = file.read_bytes().removeprefix(b"\r\x1b[K").removesuffix(b"\r\n")
            assert own.startswith(b"RAMOS: ")
            assert not find_harm(own)


def test_logins_are_told_escaped_lines(tmp_path: Path) -> None:
    places = Places.below(tmp_path)
    log = places.persist / "log"
    log.mkdir(parents=True)
    places.run.mkdir(parents=True, exist_ok=True)
    for name in HOSTILE_TEXTS:
        record = {"result": "failed", "text": name, "error": name}
        (log / "last-shutdown.json").write_text(json.dumps(record))
        confirm.tell_last_shutdown(places)
    shown = (places.run / "motd").read_bytes()
    assert not find_harm(shown)
    assert len(shown.splitlines()) == 2 * len(HOSTILE)


def test_the_log_of_the_daemon_escapes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for name in HOSTILE_TEXTS:
        loop.log(f"links: {name}")
    shown = capfdbinary.readouterr().err
    assert not find_harm(shown)
    assert len(shown.splitlines()) == len(HOSTILE)


@pytest.mark.parametrize("verbose", [False, True])
def test_the_builder_escapes_what_programs_print(
    verbose: bool, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for name in HOSTILE_TEXTS:
        for seen in (Progress(name), Progress("", detail=f"WARNING: {name}")):
            Screen(verbose).show(seen)
            Screen(verbose).show(replace(seen, ended=True))
            Screen(verbose).show(replace(seen, done=1, total=2))
    assert not find_harm(capfdbinary.readouterr().err)


def test_progress_on_a_terminal_escapes_names() -> None:
    script = (
        "import sys; from ramos.cli.screen import show_passing as show\n"
        "for name in sys.argv[1:]: show(name)"
    )
    master, slave = pty.openpty()
    tty.setraw(slave)
    words = [sys.executable, "-c", script, *(n.replace("\0", "") for n in HOSTILE_TEXTS)]
    subprocess.run(words, cwd=REPOSITORY, stderr=slave, check=True)
    shown = os.read(master, 1 << 16)
    os.close(master)
    os.close(slave)
    assert not find_harm(shown.replace(b"\r\x1b[K", b"\n"))
    assert shown.count(b"\r\x1b[K") == len(HOSTILE)
