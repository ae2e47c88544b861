"""What a build tells while it works, in the order in which it does it."""

from ramos.image.progress import Event, Progress


def test_each_step_begins_says_its_lines_and_ends() -> None:
    told: list[Event] = []
    progress = Progress(told.append)
    with progress.step("rootfs") as say:
        say("one line")
    progress.reuse("firmware")
    progress.note("a word")
    kinds = [(event.kind, event.text) for event in told]
    assert kinds == [
        *(("step", "rootfs"), ("line", "one line"), ("done", "rootfs")),
        *(("reused", "firmware"), ("note", "a word")),
    ]
    assert list(progress.seconds) == ["rootfs"]
    assert progress.reused == ["firmware"]
