"""What each step of a boot notes, and what it leaves for being tried again."""

import re

import pytest

from tests.labs.harness import Machine, run_verbs


@pytest.mark.parametrize("cmdline", ["", "ramos.restore=unpack"], ids=["ram", "unpack"])
def test_every_step_leaves_a_line_in_the_log(machine: Machine, shell: str, cmdline: str) -> None:
    """Unpacked layers need the upper before its turn."""
    machine.boot(shell, cmdline)
    steps = [line.split(" ")[1] for line in machine.read("run/ramos/boot.log").splitlines()]
    for step in ("drivers", "persist", "generation", "base", "layers", "upper", "overlay"):
        assert step in steps
    upper = [line for line in machine.read("run/ramos/boot.log").splitlines() if " upper " in line]
    assert re.search(r" zram \d+ bytes$", upper[-1]), "it says what it made, and how large"


def test_a_step_that_is_tried_again_starts_anew(machine: Machine, shell: str) -> None:
    """From the shell of last resort a step is repeated, in the same shell."""
    machine.boot(shell)
    lines = """
    pick_generation
    provide_base
    provide_layers
    echo "$BASE_LOWER $LAYER_LOWER $LAYER_COUNT"
    """
    done = run_verbs(shell, machine.root, lines + lines)
    said = [line for line in done.stdout.splitlines() if "/rootfs" in line]
    assert len(said) == 2
    assert said[0] == said[1]
    assert said[0].endswith(" 2")


def test_a_sum_that_differs_is_read_again_past_the_cache(machine: Machine, shell: str) -> None:
    machine.write("calls", "")
    machine.write("file", "text")
    done = run_verbs(shell, machine.root, 'verify_sum "$R/file" 0123 || echo "$WHY"')
    assert done.stdout == "file is damaged (sha256)\n"
    assert machine.read("calls") == "drop_caches\n" * 3
