"""A boot that failed says why and what to do, and why to a phone as well."""

import random
import subprocess
from pathlib import Path

import pytest

from ramos import layout
from tests.labs import code
from tests.labs.harness import HOOKS, KERNEL, SHELLS, Machine, run_verbs
from tests.names import HOSTILE_TEXTS

CODER = HOOKS / "lib/code.awk"
MOST_BYTES = 106
COLUMNS, ROWS = 41, 21
FAILURES = HOOKS / "lib/11-failure.sh"


def draw(shell: str, text: str) -> str:
    """What the encoder writes with the awk that belongs to a shell."""
    awk = "busybox awk" if shell == "ash" else "awk"
    done = subprocess.run(
        [*SHELLS[shell], "-c", f'{awk} -f "$0"', CODER], input=text, text=True, capture_output=True
    )
    assert done.stderr == ""
    return done.stdout


def make_texts() -> list[str]:
    """One of each length, of all that a line of the log can hold."""
    chance = random.Random(14)
    letters = [chr(number) for number in range(32, 127)]
    return ["".join(chance.choices(letters, k=length)) for length in range(1, MOST_BYTES + 1)]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_code_of_each_length_is_read(shell: str) -> None:
    texts = make_texts()
    for text in texts if shell == "dash" else texts[9::16]:
        drawn = draw(shell, text)
        assert code.read_terminal(drawn) == [text]
        lines = [code.ESCAPE.sub("", line) for line in drawn.splitlines()]
        assert len(lines) <= ROWS
        assert {len(line) for line in lines} == {len(lines[0])}
        assert len(lines[0]) <= COLUMNS


def test_a_code_holds_lines_and_cuts_what_is_too_long(shell: str) -> None:
    text = "RAMOS 0.1.0, Linux 6.1.0-1-amd64\nbase: " + "rootfs.squashfs is missing; " * 4
    assert code.read_terminal(draw(shell, text)) == [text[:MOST_BYTES]]


def fail(machine: Machine, shell: str, lines: str) -> str:
    """Run a step with the real shell of last resort; what the screen shows."""
    machine.write("sys/class/tty/console/active", "tty0 ttyS0\n")
    real = f". {FAILURES}\nCODER={CODER}\nbusybox() {{ :; }}\nsetsid() {{ exit 3; }}\n"
    run_verbs(shell, machine.root, f"{real}\n{lines}\n")
    shown = machine.read("dev/tty0")
    assert machine.read("dev/ttyS0") == shown
    return shown


def test_a_failed_step_tells_cause_hint_and_code(machine: Machine, shell: str) -> None:
    (machine.root / "persist/rootfs.squashfs").unlink()
    shown = fail(machine, shell, "PERSIST_NODE=/dev/sda2\nrun_step base provide_base")
    cause = "rootfs.squashfs is missing on /dev/sda2"
    plain = shown.replace(str(machine.root), "")
    lines = [code.ESCAPE.sub("", line) for line in plain.splitlines()]
    assert f"RAMOS stopped at step 'base': {cause}" in lines
    assert len(lines) <= 25
    assert all(len(line) <= 80 for line in lines)
    beside = " ".join(line[COLUMNS + 2 :].strip() for line in lines)
    assert "The stick may be failing: look at its files on another machine." in beside
    assert "reboot -f     starts over: another entry may work" in beside
    said = f"RAMOS {layout.VERSION}, Linux {KERNEL}, generation 0\nbase: {cause}"
    assert code.read_terminal(shown) == [said]


@pytest.mark.parametrize("length", [1, 30, 200])
def test_no_line_beside_a_code_is_lost(machine: Machine, shell: str, length: int) -> None:
    lines = f"RAMOS_VERSION=1 STEP=layers\nopen_shell {'x' * length}"
    machine.write("proc/sys/kernel/osrelease", "6\n")
    shown = fail(machine, shell, lines)
    assert "poweroff -f   switches off" in shown
    assert len(code.read_terminal(shown)) == 1


def test_without_awk_the_way_out_is_told(machine: Machine, shell: str) -> None:
    shown = fail(machine, shell, "awk() { return 127; }\nopen_shell why")
    assert "RAMOS stopped at step 'start': why" in shown
    assert "poweroff -f   switches off" in shown


def test_every_step_has_a_hint(machine: Machine, shell: str) -> None:
    lines = (HOOKS / "init").read_text().splitlines()
    steps = [line.split()[1] for line in lines if line.startswith("run_step")]
    ask = "\n".join(f'find_hint {step}; echo "$HINT"' for step in steps)
    hints = run_verbs(shell, machine.root, ask).stdout.splitlines()
    assert len([hint for hint in hints if hint]) == len(steps) - 1, "a generation is never missed"


def test_a_shell_that_was_asked_for_is_no_failure(machine: Machine, shell: str) -> None:
    shown = fail(machine, shell, "BREAK=base\nrun_step base true")
    assert "RAMOS stopped at step 'base': ramos.break=base was given" in shown
    assert code.read_terminal(shown) == []
    assert "phone" not in shown


@pytest.mark.parametrize("reason", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
def test_a_code_says_what_the_screen_says(machine: Machine, reason: str) -> None:
    machine.write("reason", reason.encode("utf-8", "surrogateescape"))
    shown = fail(machine, "dash", 'LC_ALL=C\nSTEP=mount\nopen_shell "$(cat "$R/reason")"')
    told = shown.partition("RAMOS stopped at step 'mount': ")[2].splitlines()[0]
    assert code.read_terminal(shown)[0].partition("\nmount: ")[2] == told


def test_the_version_is_one(repository: Path) -> None:
    assert f'\nversion = "{layout.VERSION}"\n' in (repository / "pyproject.toml").read_text()
