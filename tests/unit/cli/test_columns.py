"""What people read fits into 80 columns: the help of every command, and what commands show."""

import os
import pty
import subprocess
import sys

import click
import pytest

from ramos import layout
from ramos.layout import Places
from ramos.store.generation import Generation, StoredFile
from ramos.store.generations import make_tree, publish_generation
from tests.lint.test_docs import LEAVES
from tests.unit.cli.conftest import REPOSITORY, ramos

COLUMNS = 80
MESSAGE = "before the upgrade of the desktop, with all of the settings of the old one " * 2
SETTINGS = '[save]\nexclude = ["/home/user/.cache/mozilla/**", "/var/cache/apt/**", "/tmp/**"]\n'


@pytest.mark.parametrize(("name", "command"), LEAVES, ids=[name for name, _ in LEAVES])
def test_help_fits(name: str, command: click.Command) -> None:
    shown = command.get_help(click.Context(command, info_name=name))
    assert [line for line in shown.splitlines() if len(line) > COLUMNS] == []


@pytest.fixture
def busy(places: Places) -> Places:
    """A system with much to tell: a long message, many layers, trouble."""
    make_tree(places.persist)
    layers = []
    for number in range(1, 9):
        digest = f"{number:064}"
        size = 300 << 20 if number == 1 else 1
        layer = StoredFile("layer", f"{layout.LAYERS_DIR}/{digest}.squashfs", size, digest, "")
        (places.persist / layer.path).write_bytes(b"x")
        layers.append(layer)
        header = (number, number - 1, 1_700_000_000, "6.1.0-41-amd64", "shutdown", MESSAGE)
        publish_generation(places.persist, Generation(*header, tuple(layers)))
    places.boot_file.write_text(
        "mode=backup\nasked_mode=default\ngeneration=8\nkernel=6.1.0-41-amd64\n"
        f"skipped=generation 9: {'its end is not what its lines say; ' * 4}\n"
    )
    settings = places.root / "etc/ramos/ramos.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(SETTINGS)
    return places


def show_on_terminal(places: Places, *words: str) -> list[str]:
    """What the command shows on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "RAMOS_TREE": str(places.run.parent), "COLUMNS": str(COLUMNS)}
    argv = [sys.executable, "-m", "ramos", *words]
    process = subprocess.Popen(argv, stdout=theirs, stderr=theirs, cwd=REPOSITORY, env=env)
    os.close(theirs)
    said = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                said += terminal.read(65536) or b""
            except OSError:  # nobody holds it any more
                break
    process.wait()
    return said.decode().replace("\r\033[K", "").replace("\r", "").splitlines()


@pytest.mark.parametrize(
    "words",
    [
        *(("status",), ("log",), ("show", "3"), ("health",), ("config",), ("boot",), ("verify",)),
        *(("rollback",), ("pin", "7"), ("pkg", "recipes"), ("pkg", "explain", "linux-lts")),
        ("commmit",),
    ],
    ids=" ".join,
)
def test_what_is_shown_fits(busy: Places, words: tuple[str, ...]) -> None:
    lines = show_on_terminal(busy, *words)
    assert lines
    # A word that is longer than a line is a name, and stays one.
    wide = [line for line in lines if len(line) > COLUMNS and len(line.split()[-1]) < 60]
    assert wide == []
    assert MESSAGE.split()[-1] in " ".join(lines) or words[0] != "log"


def test_who_is_no_terminal_gets_a_line_as_one(busy: Places) -> None:
    assert MESSAGE.rstrip() in ramos(busy, "log").stdout


def test_a_script_is_never_folded(places: Places) -> None:
    shown = show_on_terminal(places, "completion", "bash")
    assert shown == ramos(places, "completion", "bash").stdout.splitlines()
