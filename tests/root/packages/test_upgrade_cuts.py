"""No power cut during the upgrade of a kernel leaves a stick that does not boot."""

import os
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.crash import mounts, recovery, uml, upgrade
from tests.crash.proof import judge_all, prove
from tests.crash.states import draw_state
from tests.crash.workloads import Recording

SEED = int(os.environ.get("RAMOS_SEED", "1"))
STATES = int(os.environ.get("RAMOS_STATES", "300"))
CONTROL_STATES = 20
# Beside the ends of steps, and a directory half made.
RECOVERED = int(os.environ.get("RAMOS_RECOVERED", "8"))
CUT_AGAIN = 30


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory, private_package: None) -> Path:  # noqa: ARG001
    """A directory in memory."""
    directory = tmp_path_factory.mktemp("upgrade")
    mounts.mount("scratch", directory, "tmpfs")
    return directory


@pytest.fixture(scope="module")
def recording(scratch: Path) -> Recording:
    """One upgrade of a kernel, with everything that reached the stick."""
    if not uml.KERNEL.exists():
        pytest.skip("needs Debian's user-mode-linux: a kernel that can write FAT")
    return upgrade.record(scratch)


def test_a_cut_upgrade_boots_the_old_kernel_or_the_new_one(
    recording: Recording, scratch: Path
) -> None:
    tally = prove(recording, SEED, STATES, scratch / "cuts", 1)
    print(tally.as_dict())
    assert tally.outcomes["neither"] == 0, tally.failures
    assert tally.tried == STATES
    assert tally.flushes > 20
    assert tally.failure == ""


def test_a_stick_that_ignores_flushes_is_found_out(recording: Recording, scratch: Path) -> None:
    """Cuts after the upgrade had returned: the control that the verdict can be `neither`."""
    lying = recording.without_flushes()
    chance = random.Random(SEED)
    records = lying.log.records
    end = next(at for at, r in enumerate(records) if r.kind == "mark" and "end" in r.text)
    drawn = (draw_state(lying.log, chance) for _ in range(100 * CONTROL_STATES))
    late = [state for state in drawn if state.cut > end][:CONTROL_STATES]
    verdicts = judge_all(lying, late, scratch / "control", 1)
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    assert outcomes["neither"] > 0, outcomes


def test_after_a_cut_the_upgrade_is_recovered_and_done(recording: Recording, scratch: Path) -> None:
    """At the end of each step, in the midst of making a directory, and at random; and cut once
    more while it recovers."""
    log = recording.log
    assert len(recovery.list_half_made(log)) > 2
    found = recovery.choose_states(log, SEED, RECOVERED)
    outcomes = recovery.go_on(log, found, scratch / "recovered")
    assert [outcome for outcome in outcomes if outcome.problem] == []
    assert len(outcomes) > RECOVERED
    again = recovery.record(log, scratch / "again")
    chance = random.Random(SEED)
    late = [draw_state(again, chance) for _ in range(CUT_AGAIN)]
    outcomes = recovery.look_at_all(again, late, scratch / "again")
    assert [outcome for outcome in outcomes if outcome.problem] == []


def test_the_recorded_upgrade_is_a_sound_fat(recording: Recording, scratch: Path) -> None:
    """What the kernel wrote is what the kernel would find nothing wrong with."""
    del recording
    esp = scratch / "esp-after"
    with (scratch / "disk").open("rb") as disk:
        disk.seek(upgrade.DISK.esp_start)
        esp.write_bytes(disk.read(upgrade.DISK.esp_bytes))
    done = subprocess.run(["fsck.fat", "-n", esp], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
