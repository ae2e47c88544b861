"""Small parts of the runtime: pressure, devices, boot chart, grubenv, settings, usage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import esp, grubenv
from ramos.boot.bootchart import chart_init, chart_openrc, chart_systemd, draw_svg, parse_steps
from ramos.booted import Boot
from ramos.config import Config, MemoryConfig, load_settings
from ramos.daemon.buttons import EVENT, is_closed, is_pressed, open_buttons, open_lids
from ramos.daemon.loop import first_state
from ramos.daemon.pressure import Memory, find_level, is_calm, wants_swap
from ramos.errors import RamosError
from ramos.save.usage import measure_upper, pick_telling
from ramos.stick.identity import Identity, is_same, read_head
from tests.conftest import REPOSITORY


def test_memory_without_a_swapfile_owes_it_nothing() -> None:
    assert Memory(1000, 390).after_release_percent == Memory(1000, 390).available_percent == 39


@pytest.mark.parametrize(("percent", "wanted"), [(50, False), (8, False), (7.9, True), (0, True)])
def test_wants_swap(percent: float, wanted: bool) -> None:
    assert wants_swap(Memory(1000, int(percent * 10)), MemoryConfig()) is wanted


@pytest.mark.parametrize(
    ("available", "used", "calm"), [(260, 0, True), (250, 0, False), (400, 300, False)]
)
def test_is_calm(available: int, used: int, calm: bool) -> None:
    assert is_calm(Memory(1000, available, used), MemoryConfig()) is calm


def test_a_log_that_nobody_reads_ends_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = "from ramos.daemon.loop import log; log('one'); log('two'); print('on')"
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, stdout=-1, stderr=writer, cwd=REPOSITORY, check=False)
    os.close(writer)
    assert done.stdout == b"on\n"


def test_settings_that_would_flap_do_not() -> None:
    config = MemoryConfig(swap_on_percent=40, swap_off_percent=20)
    memory = Memory(1000, 390)
    assert wants_swap(memory, config)
    assert not is_calm(memory, config)


@pytest.mark.parametrize(
    ("fill", "announced", "level"),
    [(10, 0, 0), (80, 0, 80), (99, 0, 95), (78, 80, 80), (74, 80, 0), (91, 95, 95), (89, 95, 90)],
)
def test_find_level(fill: float, announced: int, level: int) -> None:
    assert find_level(fill, (80, 90, 95), announced) == level


def test_sticks_are_told_apart() -> None:
    ours = Identity("u", "ext4", 100, "ramos-persist", "S1")
    assert is_same(ours, ours)
    assert is_same(ours, Identity("u", "ext4", 100, "ramos-persist"))
    for other in (
        Identity("v", "ext4", 100, "ramos-persist", "S1"),
        Identity("u", "ext4", 200, "ramos-persist", "S1"),
        Identity("u", "ext4", 100, "ramos-persist", "S2"),
        Identity("", "", 0),
    ):
        assert not is_same(ours, other)


EXT_HEAD = bytes(0x438) + b"\x53\xef" + bytes(0x2E) + b"0123456789abcdef" + b"ramos-persist\0\0\0"


@pytest.mark.parametrize(
    "head",
    [
        *(b"", bytes(4096), b"LUKS", b"LUKS\0\0" + bytes(506), b"LUKS\xba\xbf" + bytes(506)),
        *(EXT_HEAD[:-1], EXT_HEAD[1:] + bytes(4096), bytes(82) + b"FAT32   " + bytes(422)),
    ],
)
def test_heads_that_are_nothing(head: bytes) -> None:
    assert read_head(head) == ("", "", "")


def test_the_head_of_a_persist() -> None:
    found = ("ext4", "30313233-3435-3637-3839-616263646566", "ramos-persist")
    assert read_head(EXT_HEAD) == found


def test_boot_chart() -> None:
    steps = parse_steps("2.50 start init\nrubbish\n3.00 drivers done\n4.00 persist x\n")
    assert [(r.name, r.end_seconds) for r in chart_init(steps)] == [
        ("kernel", 2.5), ("start", 3.0), ("drivers", 4.0)
    ]  # fmt: skip
    show = "Id=a.service\nInactiveExitTimestampMonotonic=5000000\nActiveEnterTimestampMonotonic="
    rows = chart_systemd(f"{show}6000000\n\nId=b.service\nInactiveExitTimestampMonotonic=0\n")
    assert [(r.name, r.start_seconds, r.end_seconds) for r in rows] == [("a", 5, 6)]
    assert [r.name for r in chart_openrc({"b": 9, "a": 7, "old": 1}, 5)] == ["a", "b"]
    assert "&lt;x&gt;" in draw_svg(rows, "<x>")
    assert draw_svg([], "empty").startswith("<svg")


def make_esp(folder: Path) -> Path:
    path = folder / layout.GRUBENV
    path.parent.mkdir(parents=True)
    path.write_bytes(grubenv.render(grubenv.initial("6.1")))
    return path


def test_grubenv_is_written_in_place_and_only_when_it_differs(tmp_path: Path) -> None:
    path = make_esp(tmp_path)
    inode = path.stat().st_ino
    env = esp.read_env(tmp_path)
    assert not esp.write_env(tmp_path, env)
    assert esp.write_env(tmp_path, grubenv.start_trial(env, "6.2"))
    assert esp.read_env(tmp_path).trial == "6.2"
    assert (path.stat().st_ino, path.stat().st_size) == (inode, 512)


def test_a_grubenv_of_another_size_is_refused(tmp_path: Path) -> None:
    path = make_esp(tmp_path)
    env = esp.read_env(tmp_path)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(RamosError, match="one sector"):
        esp.write_env(tmp_path, env)


def test_settings_files_in_order_and_their_problems(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "ramos.toml").write_text("[save]\nkeep = 7\n")
    (tmp_path / "conf.d/b.toml").write_text("[save]\nkeep = 9\n")
    (tmp_path / "conf.d/a.toml").write_bytes(b"\xff")
    (tmp_path / "conf.d/c.toml").mkdir()
    (tmp_path / "conf.d/README").write_text("not = read")
    loaded = load_settings(tmp_path / "ramos.toml", tmp_path / "conf.d")
    assert loaded.config.save.keep == 9
    assert len(loaded.problems) == 2
    assert load_settings(tmp_path / "no", tmp_path / "nothing").problems == ()


def test_usage_names_the_directories_that_say_something(tmp_path: Path) -> None:
    (tmp_path / "var/cache/big").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "var/cache/big/file").write_bytes(b"x" * 1_000_000)
    (tmp_path / "etc/file").write_bytes(b"x" * 500_000)
    (tmp_path / "etc/same").hardlink_to(tmp_path / "etc/file")
    found = pick_telling(measure_upper(tmp_path, 0), 9)
    assert [d.path for d in found] == ["/", "/var/cache/big", "/etc"]
    assert found[0].files == 2
    assert measure_upper(tmp_path, 1e12)[0].unsaved_bytes == 0


def test_only_a_press_of_the_power_key_counts(tmp_path: Path) -> None:
    press, release = EVENT.pack(1, 2, 1, 116, 1), EVENT.pack(1, 2, 1, 116, 0)
    assert is_pressed(release + press)
    assert not is_pressed(release + EVENT.pack(1, 2, 1, 30, 1) + EVENT.pack(1, 2, 0, 116, 1))
    assert not is_pressed(press[:-1])
    assert open_buttons(tmp_path) == []


def test_only_a_lid_that_is_shut_counts(tmp_path: Path) -> None:
    shut, opened = EVENT.pack(1, 2, 5, 0, 1), EVENT.pack(1, 2, 5, 0, 0)
    assert is_closed(opened + shut)
    assert not is_closed(opened + EVENT.pack(1, 2, 5, 1, 1) + EVENT.pack(1, 2, 1, 0, 1))
    assert not is_closed(shut[:-1])
    inputs, devices = tmp_path / "input", tmp_path / "dev"
    devices.mkdir()
    for number, name in enumerate(("Lid Switch", "AT Translated Set 2 keyboard", "Power Button")):
        (inputs / f"event{number}/device").mkdir(parents=True)
        (inputs / f"event{number}/device/name").write_text(f"{name}\n")
        (devices / f"event{number}").write_bytes(shut)
    (descriptor,) = open_lids(inputs, devices)
    assert is_closed(os.read(descriptor, 4096)), "and no keyboard is opened"
    os.close(descriptor)


@pytest.mark.parametrize(("restore", "allowed"), [("mount", False), ("ram", True), ("none", True)])
def test_no_swap_on_the_stick_while_layers_are_mounted_from_it(restore: str, allowed: bool) -> None:
    assert first_state(Boot(restore=restore), Config()).swap_allowed is allowed
