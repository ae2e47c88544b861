"""The guard of a kernel on trial is sent away once the system is up."""

import json
import os
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot.confirm import (
    STRICT_SETTINGS,
    arm_generation,
    confirm_boot,
    count_generation,
    read_attempts,
    release_guard,
    tell_last_shutdown,
)
from ramos.boot.esp import read_env, write_env
from ramos.boot.grubenv import GENERATION_TRIES, BootEnv
from ramos.boot.kernels import COMPLETE
from ramos.boot.titles import render
from ramos.booted import Boot, Mode
from ramos.layout import Places
from ramos.store.generation import Generation, StoredFile
from ramos.store.generations import make_tree, publish_generation
from ramos.store.records import find_records, read_records


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places.below(tmp_path)
    made.run.mkdir()
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A kernel that has every setting but the last one."""
    folder = tmp_path / "kernel"
    folder.mkdir()
    for name in STRICT_SETTINGS:
        (folder / name).write_text("1\n")
    (folder / "watchdog_thresh").unlink()
    (folder / "watchdog_thresh").mkdir()
    return folder


def read_settings(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.iterdir() if path.is_file()}


def test_the_guard_is_told_and_the_kernel_is_lenient(places: Places, settings: Path) -> None:
    os.mkfifo(places.run / "guard")
    guard = os.open(places.run / "guard", os.O_RDWR)
    assert release_guard(places, settings)
    assert os.read(guard, 100) == b"confirmed\n"
    os.close(guard)
    assert read_settings(settings) == {"0\n"}
    assert not release_guard(places, settings)


def test_a_guard_that_has_gone_is_not_waited_for(places: Places, settings: Path) -> None:
    os.mkfifo(places.run / "guard")
    assert release_guard(places, settings)
    assert read_settings(settings) == {"0\n"}


def test_a_kernel_that_is_not_on_trial_keeps_its_settings(places: Places, settings: Path) -> None:
    assert not release_guard(places, settings)
    assert read_settings(settings) == {"1\n"}


@pytest.mark.parametrize(("mode", "counts"), [*zip(Mode, (7, 0, 0), strict=True)])
def test_only_a_default_boot_makes_its_generation_good(mode: Mode, counts: int) -> None:
    assert count_generation(Boot(mode=mode, generation=7)) == counts


@pytest.mark.parametrize(
    ("result", "told"),
    [("failed", True), ("elsewhere", True), ("saved", False), ("unchanged", False), ("off", False)],
)
def test_only_a_save_that_failed_is_told_to_logins(places: Places, result: str, told: bool) -> None:
    log = places.persist / "log"
    log.mkdir(parents=True)
    entry = {"result": result, "text": "gave up", "error": "the largest is /home/x/y"}
    (log / "last-shutdown.json").write_text(json.dumps(entry))
    for _ in range(2):  # once, however often it is asked
        assert bool(tell_last_shutdown(places)) is told
    motd = places.run / "motd"
    assert motd.exists() is told
    if told:
        assert motd.read_text().count("gave up") == 1
        assert "/home" not in motd.read_text(), "whoever logs in reads it"


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_damaged_record_of_the_shutdown_is_passed_over(places: Places, text: str) -> None:
    log = places.persist / "log"
    log.mkdir(parents=True)
    (log / "last-shutdown.json").write_text(text)
    assert tell_last_shutdown(places) == ""


def add_kernel(esp: Path, name: str) -> None:
    folder = esp / layout.KERNELS_DIR / name
    folder.mkdir(parents=True)
    (folder / COMPLETE).touch()


def test_a_new_generation_gets_its_tries_from_grub(esp: Path, places: Places) -> None:
    assert arm_generation(Boot(), places)
    assert read_env(esp) == BootEnv("6.1", "", 0, 6, 3)
    assert not arm_generation(Boot(), places)  # one write, and only where something changes


@pytest.mark.parametrize("luks_uuid", ["", "6c1e0b2e-0000-4000-8000-000000000000"])
def test_a_save_tells_the_menu(esp: Path, places: Places, luks_uuid: str) -> None:
    make_tree(places.persist)
    layer = StoredFile("layer", f"{layout.LAYERS_DIR}/{'a' * 64}.squashfs", 1, "a" * 64, "")
    (places.persist / layer.path).write_bytes(b"x")
    for number, message in ((2, ""), (3, "mine")):
        made = Generation(number, number - 1, 1_700_000_000, "6.1", "user", message, (layer,))
        publish_generation(places.persist, made)
    place = esp / layout.MENU_TITLES
    arm_generation(Boot(luks_uuid=luks_uuid), places)
    assert not place.exists(), "an older stick has no place for it, and gets no new name"
    place.write_bytes(render("", ""))
    assert not arm_generation(Boot(luks_uuid=luks_uuid), places)
    newest, backup = place.read_text().splitlines()[1:3]
    assert newest.startswith("ramos_newest=generation 3, ")
    assert newest.endswith(": mine") != bool(luks_uuid)
    assert backup.startswith("ramos_backup=generation 2, ")


@pytest.mark.parametrize("data", [b"", b"x" * 511, render("", "") * 2, None])
def test_a_menu_without_room_for_words_costs_the_words_alone(
    esp: Path, places: Places, data: bytes | None
) -> None:
    """Too short, too long, a folder: what GRUB does is written, and nobody hears of an error."""
    place = esp / layout.MENU_TITLES
    place.mkdir() if data is None else place.write_bytes(data)
    add_kernel(esp, "6.1")
    assert arm_generation(Boot(), places)
    assert read_env(esp).gen_tries == GENERATION_TRIES
    attempts = confirm_boot(Boot(mode=Mode.DEFAULT, generation=7, kernel="6.1"), places)
    assert attempts.env.gen_good == read_env(esp).gen_good == 7
    assert place.is_dir() if data is None else place.read_bytes() == data
    noted = read_records("failures", find_records(places))
    assert [str(place) in entry["error"] for entry in noted] == [True, True]


def test_a_boot_that_works_is_good(esp: Path, places: Places) -> None:
    add_kernel(esp, "6.1")
    write_env(esp, BootEnv("6.1", "", 0, 6, 2))
    attempts = confirm_boot(Boot(mode=Mode.DEFAULT, generation=7, kernel="6.1"), places)
    assert attempts.written
    assert attempts.kernels == ("6.1",)
    assert read_env(esp) == attempts.env == BootEnv("6.1", "", 0, 7, 3)
    assert read_attempts(Boot()).env == attempts.env


def test_a_kernel_on_trial_that_works_is_good(esp: Path, places: Places) -> None:
    add_kernel(esp, "6.1")
    add_kernel(esp, "6.2")
    write_env(esp, BootEnv("6.1", "6.2", 1, 6, 3))
    confirm_boot(Boot(mode=Mode.CLEAN, generation=0, kernel="6.2"), places)
    assert read_env(esp) == BootEnv("6.2", "", 0, 6, 3)
