"""What the runtime says of itself: how far the images are on their way to RAM."""

from pathlib import Path

import pytest

from ramos.config import Config, MemoryConfig
from ramos.daemon import status
from ramos.layout import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places.below(tmp_path)
    (made.persist / "log").mkdir(parents=True)
    return made


@pytest.mark.parametrize(
    ("boot", "known", "setting", "word"),
    [
        ("later\ntoram=later", "waiting", "later", "waiting"),
        ("later\ntoram=later", "waiting", "no", "no"),
        ("later\ntoram=later", "running", "later", "running"),
        ("later\ntoram=later", "failed", "later", "failed"),
        ("later\ntoram=no", "no", "later", "too large"),
        ("now\ntoram=no", "no", "later", "too large"),
        ("no\ntoram=no", "no", "later", "no"),
    ],
)
def test_how_far_images_are_on_their_way_to_ram(
    places: Places, boot: str, known: str, setting: str, word: str
) -> None:
    places.run.mkdir(exist_ok=True)
    places.boot_file.write_text(f"asked_toram={boot}\n")
    config = Config(memory=MemoryConfig(toram=setting))
    assert status.find_copies(places, {"toram": known}, config) == word
    assert word in status.TORAM_WORDS
    places.in_ram_file.touch()
    assert status.find_copies(places, {}, config) == "done"


@pytest.mark.parametrize(
    ("swapfile", "said"), [("off", "The stick can be pulled out"), ("on", "leave it in")]
)
def test_a_stick_that_is_swapped_to_is_not_to_be_pulled_out(swapfile: str, said: str) -> None:
    known = status.RuntimeStatus(True, "present", swapfile, 0, 5, 0, "done", False, 0, (), ())
    assert said in dict(status.describe_status(known))["in RAM"]
