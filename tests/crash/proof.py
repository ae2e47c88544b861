"""The proof: record a workload, judge the states a power cut could leave, and count.

Owns: the workers and the tally. Refuses: a proof that proves nothing (see `Tally.failure`).
"""

import multiprocessing
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.check import Verdict
from tests.crash.replay import materialize
from tests.crash.states import State, states
from tests.crash.workloads import Recording

OUTCOMES = ("old", "new", "neither")


@dataclass(frozen=True)
class Job:
    """The states that one worker judges, and where."""

    recording: Recording
    found: list[State]
    directory: Path


@dataclass
class Tally:
    """What came up, and how."""

    records: int = 0
    flushes: int = 0
    interrupted: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    rungs: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """How many states."""
        return sum(self.outcomes.values())

    @property
    def failure(self) -> str:
        """Why this is no proof, or nothing."""
        if self.outcomes["neither"]:
            return f"{self.outcomes['neither']} states came up as neither the old nor the new one"
        if not (self.interrupted["old"] and self.interrupted["new"]):
            return "nothing was interrupted: a cut during a step must be seen to end both ways"
        return ""

    def add(self, other: "Tally") -> None:
        """Sum up."""
        self.records += other.records
        self.flushes += other.flushes
        self.interrupted += other.interrupted
        self.outcomes += other.outcomes
        self.kinds += other.kinds
        self.rungs += other.rungs
        self.failures += other.failures

    def as_dict(self) -> dict[str, object]:
        """For --json."""
        return {
            "states": self.tried,
            **{name: self.outcomes[name] for name in OUTCOMES},
            "interrupted": {name: self.interrupted[name] for name in OUTCOMES},
            "records": self.records,
            "flushes": self.flushes,
            "kinds": dict(self.kinds),
            "repaired_by": dict(self.rungs),
            "failures": self.failures,
        }


def prove(recording: Recording, seed: int, count: int, directory: Path, workers: int) -> Tally:
    """Judge `count` states of a recording."""
    log = recording.log
    found = list(states(log, seed, count))
    tally = Tally(len(log.records), len(log.flushes))
    for state, verdict in zip(found, judge_all(recording, found, directory, workers), strict=True):
        tally.outcomes[verdict.outcome] += 1
        tally.kinds[state.how] += 1
        tally.rungs[verdict.rung] += 1
        if verdict.interrupted:
            tally.interrupted[verdict.outcome] += 1
        if verdict.outcome == "neither":
            where = f"cut after record {state.cut} of {len(log.records)}, {state.how}"
            tally.failures.append(f"{where}: {verdict.reason}")
    return tally


def judge_all(
    recording: Recording, found: list[State], directory: Path, workers: int
) -> list[Verdict]:
    """Judge states with several workers; the verdicts come in the order of the states."""
    jobs = [Job(recording, found[n::workers], directory / f"worker{n}") for n in range(workers)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        done = pool.map(run_job, jobs, chunksize=1)
    verdicts = {n + i * workers: v for n, share in enumerate(done) for i, v in enumerate(share)}
    return [verdicts[n] for n in range(len(found))]


def run_job(job: Job) -> list[Verdict]:
    """Judge each state on a disk of the worker's own."""
    disk, target = job.directory / "disk", job.directory / "mnt"
    target.mkdir(parents=True)
    verdicts = []
    made = job.recording
    for state in job.found:
        materialize(made.log, state, disk)
        verdicts.append(made.judge(made.log, state, disk, made.truths, target))
    disk.unlink(missing_ok=True)
    return verdicts
