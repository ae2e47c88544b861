"""Parameters, labels and names with commands for a terminal are harmless during the boot."""

import os
from pathlib import Path

import pytest

from tests.labs import code
from tests.labs.harness import Machine, list_steps, run_verbs
from tests.names import HOSTILE, find_harm

TOLD = ("run/ramos/motd", "run/ramos/boot", "run/ramos/boot.log")
WORDS = [name.replace(b"\n", b"").replace(b" ", b"") for name in HOSTILE]


@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_ignored_parameters_are_told_with_their_escapes_gone(
    tmp_path: Path, shell: str, word: bytes
) -> None:
    machine = Machine(tmp_path / "m")
    machine.add_stick()
    machine.add_history()
    machine.write("proc/cmdline", b"ramos.mode=" + word + b" ramos.persist=LABEL=" + word + b"\n")
    done = run_verbs(shell, machine.root, list_steps())
    assert not find_harm(os.fsencode(done.stdout))
    for name in TOLD:
        assert not find_harm((machine.root / name).read_bytes()), name
    greeting = machine.read("run/ramos/motd")
    assert greeting.count("kernel parameter ignored: ramos.") == 2


def test_a_reason_is_escaped_on_every_way_to_the_consoles(tmp_path: Path, shell: str) -> None:
    machine = Machine(tmp_path / "m")
    machine.write("sys/class/tty/console/active", "tty0 ttyS0\n")
    reason = machine.write("reason", b"\n".join(HOSTILE))
    lines = f"""
STEP=generation
LC_ALL=C
reason=$(cat {reason})
skip_generation 7 "$reason"
warn "$reason"
note "$STEP" "$reason"
say "$reason"
write_greeting
TRIAL=1
give_up_trial "$reason"
"""
    done = run_verbs(shell, machine.root, lines)
    assert not find_harm(os.fsencode(done.stdout))
    for name in ("run/ramos/motd", "run/ramos/boot.log", "dev/tty0", "dev/ttyS0"):
        told = (machine.root / name).read_bytes()
        for ours in code.COLOURS, code.NO_COLOURS:
            told = told.replace(ours.encode(), b"")
        assert b"ramos: all good" in told
        assert not find_harm(told), name
        assert not any(line.startswith(b"ramos: all good") for line in told.splitlines()), name
