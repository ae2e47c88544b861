"""The state machine of the boot menu, in GRUB itself: every state of grubenv boots something."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import grubenv, titles
from ramos.boot.grubenv import BootEnv
from ramos.image import theme
from tests.labs.grub import GrubDisk, Started, run

OLD, NEW, NEWER = "6.1.0-1-amd64", "6.1.0-2-amd64", "6.12~bpo+1-amd64"
STANDARD = BootEnv(OLD, "", 0, 7, 3)


def env_bytes(text: str) -> bytes:
    return (grubenv.HEADER + text.encode()).ljust(grubenv.SIZE_BYTES, b"#")


@dataclass
class Case:
    """An environment, the kernels, and what must come of them."""

    env: BootEnv | bytes | None
    kernel: str
    generation: str = ""
    after: BootEnv | None = None
    damaged: tuple[str, ...] = ()
    lacks: dict[str, str] = field(default_factory=dict)
    writable: bool = True
    mode: str = "default"
    trial: bool = False
    fallback: str = ""


CASES = {
    "good": Case(STANDARD, OLD, after=BootEnv(OLD, "", 0, 7, 2)),
    "generation's last try": Case(
        BootEnv(OLD, "", 0, 7, 1), OLD, after=BootEnv(OLD, "", 0, 7, 0)
    ),
    "generation used up": Case(BootEnv(OLD, "", 0, 7, 0), OLD, "7"),
    "generation used up, none good": Case(BootEnv(OLD, "", 0, 0, 0), OLD),
    "backup counts nothing": Case(STANDARD, OLD, after=STANDARD, mode="backup"),
    "clean counts nothing": Case(STANDARD, OLD, after=STANDARD, mode="clean"),
    "trial": Case(BootEnv(OLD, NEW, 2, 7, 3), NEW, after=BootEnv(OLD, NEW, 1, 7, 3), trial=True),
    "trial's last try": Case(
        BootEnv(OLD, NEW, 1, 7, 3), NEW, after=BootEnv(OLD, NEW, 0, 7, 3), trial=True
    ),
    "trial used up": Case(
        BootEnv(OLD, NEW, 0, 7, 3), OLD, after=BootEnv(OLD, NEW, 0, 7, 2), fallback=NEW
    ),
    "trial and generation used up": Case(BootEnv(OLD, NEW, 0, 7, 0), OLD, "7", fallback=NEW),
    "trial in backup": Case(BootEnv(OLD, NEW, 2, 7, 3), OLD, mode="backup"),
    "trial is damaged": Case(BootEnv(OLD, NEW, 2, 7, 3), OLD, damaged=(NEW,), fallback=NEW),
    "trial is not complete": Case(BootEnv(OLD, NEW, 2, 7, 3), OLD, lacks={NEW: "complete"}),
    "trial is gone": Case(BootEnv(OLD, "6.9", 2, 7, 3), OLD),
    "trial has no hashes": Case(
        BootEnv(OLD, NEW, 2, 7, 3), OLD, lacks={NEW: "sha256"}, fallback=NEW
    ),
    "trial, junk counter": Case(
        env_bytes(f"good={OLD}\ntrial={NEW}\ntries=many\n"), OLD, fallback=NEW
    ),
    "trial, huge counter": Case(
        env_bytes(f"good={OLD}\ntrial={NEW}\ntries=10\n"), OLD, fallback=NEW
    ),
    "trial, stick is read-only": Case(BootEnv(OLD, NEW, 2, 7, 3), OLD, writable=False),
    "stick is read-only": Case(STANDARD, OLD, after=STANDARD, writable=False),
    "good is gone": Case(BootEnv("6.9", "", 0, 7, 3), NEWER),
    "good lacks its kernel": Case(STANDARD, NEWER, lacks={OLD: "vmlinuz"}),
    "good is damaged, unconfirmed boot": Case(BootEnv(OLD, "", 0, 7, 2), NEWER, damaged=(OLD,)),
    "env absent": Case(None, NEWER),
    "env absent, newest damaged": Case(None, NEW, damaged=(NEWER,)),
    "env absent, newest not complete": Case(None, NEW, lacks={NEWER: "complete"}),
    "env absent, all damaged": Case(None, NEWER, damaged=(OLD, NEW, NEWER)),
    "env empty": Case(b"", NEWER),
    "env zeroed": Case(bytes(grubenv.SIZE_BYTES), NEWER),
    "env garbage": Case(bytes(range(256)) * 2, NEWER),
    "env hostile": Case(
        env_bytes('good=../EFI\ntrial=";reboot\nprefix=(hd9)\nroot=(hd9)\ngen_good=1 init=/x\n'
                  "gen_tries=0\n"),
        NEWER,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_menu(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    disk = GrubDisk(tmp_path)
    if case.env is not None:
        block = case.env if isinstance(case.env, bytes) else grubenv.render(case.env)
        disk.put(block, layout.GRUBENV)
    for kernel in (OLD, NEW, NEWER):
        disk.add_kernel(kernel, case.lacks.get(kernel, "").split(), kernel in case.damaged)
    started = disk.boot(case.mode, writable=case.writable)
    assert started == Started(case.kernel, case.mode, case.generation, case.trial, case.fallback)
    if case.after is not None:
        assert grubenv.parse(disk.read_env()) == case.after


OWN_WORDS = ("what was saved last", "what was saved before that")
SAID = ("generation 12, 14 Nov 2023 22:13: before the upgrade", "generation 11, 13 Nov 2023 09:01")


@pytest.mark.parametrize(
    ("block", "tries", "newest", "backup"),
    [
        (titles.render(*SAID), 3, *SAID),
        (titles.render(*SAID), 0, "generation 7, the last that is known to boot", SAID[1]),
        (titles.render("", ""), 3, *OWN_WORDS),
        (None, 3, *OWN_WORDS),
        (b"", 3, *OWN_WORDS),
        (bytes(range(256)) * 2, 3, *OWN_WORDS),
    ],
    ids=["said", "given up", "nothing said", "absent", "empty", "garbage"],
)
def test_the_menu_says_what_each_entry_starts(
    block: bytes | None, tries: int, newest: str, backup: str, tmp_path: Path
) -> None:
    disk = GrubDisk(tmp_path, timeout_seconds=1)
    disk.put(grubenv.render(BootEnv(OLD, "", 0, 7, tries)), layout.GRUBENV)
    if block is not None:
        disk.put(block, layout.MENU_TITLES)
    disk.add_kernel(OLD)
    shown = disk.run_grub()
    for line in (
        f"1  RAMOS           {newest}",
        f"2  RAMOS (backup)  {backup}",
        "3  RAMOS (clean)   as it was made; nothing is saved",
        "4  Older kernels",
        "5  RAMOS in RAM    ",
        "6  RAMOS checked   ",
    ):
        assert line in shown


def test_a_bad_generation_gets_three_tries_and_a_bad_kernel_two(tmp_path: Path) -> None:
    disk = GrubDisk(tmp_path)
    disk.put(grubenv.render(grubenv.start_trial(STANDARD, NEW)), layout.GRUBENV)
    for kernel in (OLD, NEW):
        disk.add_kernel(kernel)
    started = [disk.boot() for _ in range(7)]
    assert [boot.kernel for boot in started] == [NEW] * 2 + [OLD] * 5
    assert [boot.generation for boot in started] == [""] * 5 + ["7"] * 2
    assert [boot.trial for boot in started] == [True] * 2 + [False] * 5
    assert [boot.fallback for boot in started] == [""] * 2 + [NEW] * 5


def read_colours(picture: Path) -> tuple[bytes, dict[bytes, int]]:
    """The size of a picture in QEMU's own format, and how often each colour is in it."""
    _, size, _, pixels = picture.read_bytes().split(b"\n", 3)
    return size, Counter(pixels[at : at + 3] for at in range(0, len(pixels), 3))


def test_the_menu_is_drawn_on_the_screen_and_written_on_the_serial_line(tmp_path: Path) -> None:
    disk = GrubDisk(tmp_path, timeout_seconds=60)
    disk.add_kernel(OLD)
    picture = tmp_path / "picture.ppm"
    shown = disk.take_picture(picture, "6  RAMOS checked")
    for name in ("1  RAMOS           ", "2  RAMOS (backup)  ", "4  Older kernels   another kernel"):
        assert name in shown
    size, colours = read_colours(picture)
    assert size == b"1024 768"
    assert max(colours, key=colours.__getitem__) == bytes(theme.NIGHT)
    # The bar behind one entry, and a title of large letters.
    assert colours[bytes(theme.ACCENT)] > 15_000
    assert colours[bytes(theme.LIGHT)] > 60 * theme.BLOCK_PIXELS**2


@pytest.mark.parametrize("name", [theme.TEMPLATE, theme.FONT.name, theme.TITLE, theme.BAR])
def test_the_menu_is_there_without_each_file_of_its_theme(name: str, tmp_path: Path) -> None:
    disk = GrubDisk(tmp_path, timeout_seconds=60)
    run("mdel", "-i", disk.image, f"::/{theme.FOLDER}/{name}")
    picture = tmp_path / "picture.ppm"
    assert "1  RAMOS           " in disk.take_picture(picture, "6  RAMOS checked")
    _, colours = read_colours(picture)
    assert len(colours) > 1, "something is on the screen, too"
