"""What a build tells while it works, in the order in which it does it."""

from ramos.image.steps import Steps
from ramos.progress import Progress


def test_each_step_begins_says_its_lines_and_ends() -> None:
    told: list[Progress] = []
    steps = Steps(told.append)
    with steps.step("rootfs") as say:
        say("one line")
    steps.reuse("firmware")
    steps.note("a word")
    assert told == [
        Progress("rootfs"),
        Progress("rootfs", detail="one line"),
        Progress("rootfs", detail=f"{steps.seconds['rootfs']:.1f} s", ended=True),
        Progress("firmware", detail="reused", ended=True),
        Progress("a word", ended=True),
    ]
    assert list(steps.seconds) == ["rootfs"]
    assert steps.reused == ["firmware"]
