"""After thirty saves, rollbacks and compactions in any order, the right generations are there."""

import os
import random
import time
from pathlib import Path

import pytest

from ramos.config import SaveConfig
from ramos.progress import quiet
from ramos.save import compact, history
from ramos.store.generations import read_default
from tests.labs.lab import Lab

CONFIG = SaveConfig(reserve_mib=1, max_layers=40, keep=4, keep_named=2, keep_daily=0, keep_weekly=0)
STEPS = ("save", "save", "named", "empty", "noise", "rollback", "compact", "boot")


class Story:
    """A stick, and what each real save on it holds."""

    def __init__(self, top: Path) -> None:
        self.lab = Lab(top, config=CONFIG, persist_mib=128).make()
        (self.lab.places.run / "rootfs/var/log").mkdir(parents=True)
        self.lab.boot_first()
        self.file = self.lab.places.root / "file"
        self.texts: dict[int, str] = {}
        self.named: list[int] = []
        self.count = 0

    def save(self, message: str = "") -> None:
        self.count += 1
        self.file.write_text(f"{self.count}\n")
        # What is written in the tick of a save counts as unsaved after it.
        time.sleep(0.05)
        report = self.lab.commit(message=message)
        self.texts[report.generation] = f"{self.count}\n"
        self.named += [report.generation] if message else []
        named = [f"{number}" for number in report.pruned.generations]
        assert [name.split()[0] for name in report.pruned.names] == named

    def step(self, what: str) -> None:
        places = self.lab.places
        match what:
            case "save":
                self.save()
            case "named":
                self.save(f"state {self.count + 1}")
            case "empty":
                assert self.lab.commit().generation == 0
            case "noise":
                (places.root / "var/log/boot").write_text(f"{self.count}")
                assert self.lab.commit(shutdown=True).generation == 0
            case "rollback":
                history.rollback(places, None, quiet)
                self.lab.boot()
            case "compact":
                compact.compact(places, CONFIG, everything=True, on_progress=quiet)
            case "boot":
                self.lab.boot()

    def check(self) -> None:
        """The newest real saves are there, and the newest with a message."""
        numbers = set(self.lab.numbers())
        wanted = {*list(self.texts)[-CONFIG.keep :], *self.named[-CONFIG.keep_named :]}
        assert wanted <= numbers, (wanted, numbers)
        # Default, its parent and what was booted may be others.
        assert len(numbers) <= len(wanted) + 3


@pytest.mark.parametrize("seed", range(3))
def test_thirty_mixed_steps_keep_the_right_generations(tmp_path: Path, seed: int) -> None:
    story, chance = Story(tmp_path), random.Random(seed)
    for what in ("save", "boot", "named", "save"):
        story.step(what)
    for _ in range(30):
        story.step(chance.choice(STEPS))
        story.check()
    lab = story.lab
    assert not history.verify(lab.places, everything=True, on_progress=quiet).damaged
    for number in sorted(set(story.texts) & set(lab.numbers())):
        lab.boot(number)
        assert story.file.read_text() == story.texts[number]


def test_many_rollbacks_push_no_save_out(tmp_path: Path) -> None:
    story = Story(tmp_path)
    for what in ("save", "boot", "save", "named", "save", *["rollback"] * 12):
        story.step(what)
    assert {*story.texts} <= set(story.lab.numbers())
    story.step("save")
    story.check()


def test_where_room_is_short_messages_keep_no_longer(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.step("save")
    story.step("boot")
    for what in ("named", *["save"] * 6):
        story.step(what)
    assert story.named[0] in story.lab.numbers()
    status = os.statvfs(story.lab.places.persist)
    room = status.f_bavail * status.f_frsize - (10 << 20)
    (story.lab.places.persist / "filler").write_bytes(bytes(room))
    story.step("save")
    assert story.named[0] not in story.lab.numbers()
    default = read_default(story.lab.places.persist)
    assert default is not None
    assert default.number == max(story.texts)
