"""No power cut during the upgrade of a kernel leaves a stick that does not boot."""

import os
import random
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash import mounts, recovery, uml, upgrade
from tests.crash.bases import BASES, Base
from tests.crash.proof import judge_all, prove
from tests.crash.states import draw_state
from tests.crash.workloads import Recording

SEED = int(os.environ.get("RAMOS_SEED", "1"))
CONTROL_STATES = 20
CUT_AGAIN = 30


@dataclass(frozen=True)
class Amount:
    """How much is tried with one base: most of what is written is the same engine's with each."""

    states: int
    # Beside the ends of steps, and a directory half made; of all these each `step`th.
    recovered: int
    step: int = 1


AMOUNTS = {"debian": Amount(300, 8), "alpine": Amount(100, 3, 4)}


def find_amount(base: Base) -> Amount:
    """The usual one, or what was asked for: then nothing is left out."""
    usual = AMOUNTS[base.name]
    states, recovered = (os.environ.get(f"RAMOS_{n}") for n in ("STATES", "RECOVERED"))
    return Amount(
        int(states or usual.states),
        int(recovered or usual.recovered),
        1 if recovered else usual.step,
    )


@pytest.fixture(scope="module", params=[*BASES.values()], ids=[*BASES])
def base(request: pytest.FixtureRequest) -> Base:
    """Whose kernel it is: what is written is the engine's work, when and what for the manager's."""
    found: Base = request.param
    return found


@pytest.fixture(scope="module")
def scratch(
    base: Base,
    tmp_path_factory: pytest.TempPathFactory,
    private_package: None,  # noqa: ARG001
) -> Path:
    """A directory in memory."""
    directory = tmp_path_factory.mktemp(f"upgrade-{base.name}")
    mounts.mount("scratch", directory, "tmpfs")
    return directory


@pytest.fixture(scope="module")
def recording(base: Base, scratch: Path) -> Recording:
    """One upgrade of a kernel, with everything that reached the stick."""
    if not uml.KERNEL.exists():
        pytest.skip("needs Debian's user-mode-linux: a kernel that can write FAT")
    return upgrade.record(base, scratch)


def test_a_cut_upgrade_boots_the_old_kernel_or_the_new_one(
    base: Base, recording: Recording, scratch: Path
) -> None:
    wanted = find_amount(base).states
    tally = prove(recording, SEED, wanted, scratch / "cuts", 1)
    print(tally.as_dict())
    assert tally.outcomes["neither"] == 0, tally.failures
    assert tally.tried == wanted
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


def test_after_a_cut_the_upgrade_is_recovered_and_done(
    base: Base, recording: Recording, scratch: Path
) -> None:
    """At the end of each step, in the midst of making a directory, and at random; and cut once
    more while it recovers."""
    log = recording.log
    assert len(recovery.list_half_made(base, log)) > 2
    amount = find_amount(base)
    found = recovery.choose_states(base, log, SEED, amount.recovered)[:: amount.step]
    outcomes = recovery.go_on(base, log, found, scratch / "recovered")
    assert [outcome for outcome in outcomes if outcome.problem] == []
    assert len(outcomes) > amount.recovered
    again = recovery.record(base, log, scratch / "again")
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
