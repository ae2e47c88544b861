"""The boot menu and the boot environment as text."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramos.boot import grubenv, menu, titles
from ramos.boot.grubenv import BootEnv
from ramos.errors import DamagedError, UsageError

KERNELS = ("6.1.0-1-amd64", "6.1.0-2-amd64")


@pytest.fixture
def template(repository: Path) -> str:
    return (repository / "grub" / menu.MENU_TEMPLATE).read_text()


def test_menu_is_valid_grub(template: str, tmp_path: Path) -> None:
    text = menu.render_menu(template, menu.Menu("UUID=0-1", ("ramos.luks=UUID=2-3", "psi=1")))
    assert "@" not in text
    assert "ramos.persist=UUID=0-1 ramos.luks=UUID=2-3 psi=1" in text
    if shutil.which("grub-script-check"):
        file = tmp_path / "grub.cfg"
        file.write_text(text)
        subprocess.run(["grub-script-check", file], check=True)


def test_each_entry_says_what_it_does_on_a_terminal_of_80_columns(template: str) -> None:
    entries = re.findall(r'^(?:menuentry|submenu) "(\d  .{15} )(\S.*?)" --id', template, re.M)
    assert [title[0] for title, _ in entries] == list("123456")
    for title, text in entries:
        room = titles.MOST_CHARS if text.startswith("$ramos_") else len(text)
        assert len(title) + room <= 74


def test_early_configuration_names_no_stick(repository: Path) -> None:
    text = menu.render_early((repository / "grub" / menu.EARLY_TEMPLATE).read_text())
    assert text == "search.file /grub/grub.cfg root $root $root,\nset prefix=($root)/grub\n"


@pytest.mark.parametrize("word", ['a"b', "a b", "a;b", "$x", "a'b", "a\nb", "", "-x", "a|b", "a{b"])
def test_no_word_breaks_out(template: str, word: str) -> None:
    for bad in (
        menu.Menu("UUID=1", parameters=(word,)),
        menu.Menu("UUID=1", console=(word,)),
        menu.Menu(f"UUID={word}x" if word else "\n"),
    ):
        if word == "-x" and not bad.persist.endswith("=1"):
            continue
        with pytest.raises(UsageError, match="boot menu"):
            menu.render_menu(template, bad)


def test_a_forgotten_field_is_an_error() -> None:
    with pytest.raises(UsageError, match="NAME"):
        menu.fill_template("a @NAME@ b", {"OTHER": "x"})


names = st.sampled_from(["", *KERNELS, "6.6~rc1+b_2"])
envs = st.builds(
    BootEnv, names, names, st.integers(0, 9), st.integers(0, 999_999_999), st.integers(0, 9)
)


@given(envs)
def test_block_round_trip(env: BootEnv) -> None:
    block = grubenv.render(env)
    assert len(block) == grubenv.SIZE_BYTES
    assert block.startswith(grubenv.HEADER)
    assert grubenv.parse(block) == env


@given(st.binary(max_size=600))
def test_garbage_is_refused_or_read(tail: bytes) -> None:
    with pytest.raises(DamagedError):
        grubenv.parse(b"\0" + tail)
    env = grubenv.parse(grubenv.HEADER + tail)
    assert grubenv.parse(grubenv.render(env)) == env


def test_junk_values_count_as_not_set() -> None:
    block = grubenv.HEADER + b"good=../x\ntrial=a b\ntries=-1\ngen_good=x\ngen_tries=99\n"
    assert grubenv.parse(block) == BootEnv()


def test_too_long_names_are_refused() -> None:
    with pytest.raises(UsageError, match="fit"):
        grubenv.render(BootEnv(good="a" * 300, trial="b" * 300))
    for name in ("a" * 101, "../x", "", "a b"):
        with pytest.raises(UsageError):
            grubenv.start_trial(BootEnv(), name)


OLD, NEW = KERNELS
CONFIRMED = BootEnv(OLD, "", 0, 7, 3)


@pytest.mark.parametrize(
    ("env", "kernel", "generation", "newest", "wanted"),
    [
        (BootEnv(OLD, "", 0, 6, 2), OLD, 7, 7, CONFIRMED),
        (CONFIRMED, OLD, 7, 7, CONFIRMED),
        (BootEnv(OLD, NEW, 1, 7, 3), NEW, 7, 7, BootEnv(NEW, "", 0, 7, 3)),
        (BootEnv(OLD, NEW, 0, 7, 3), OLD, 7, 7, BootEnv(OLD, NEW, 0, 7, 3)),
        (BootEnv("gone", "", 0, 7, 3), OLD, 7, 7, CONFIRMED),
        (BootEnv("", "", 0, 0, 3), OLD, 1, 1, BootEnv(OLD, "", 0, 1, 3)),
        (BootEnv(NEW, "", 0, 7, 3), OLD, 7, 7, BootEnv(NEW, "", 0, 7, 3)),
        (BootEnv(OLD, "", 0, 6, 0), OLD, 6, 7, BootEnv(OLD, "", 0, 6, 0)),
        (BootEnv(OLD, "", 0, 6, 0), OLD, 7, 7, CONFIRMED),
        (BootEnv(OLD, "", 0, 6, 2), OLD, 6, 7, BootEnv(OLD, "", 0, 6, 3)),
        (BootEnv(OLD, NEW, 1, 6, 2), NEW, 0, 7, BootEnv(NEW, "", 0, 6, 2)),
        (BootEnv("gone", "", 0, 7, 3), "elsewhere", 7, 7, BootEnv("gone", "", 0, 7, 3)),
        (BootEnv(OLD, "", 0, 7, 3), "elsewhere", 7, 7, CONFIRMED),
    ],
    ids=[
        "newest",
        "again",
        "trial",
        "trial failed",
        "good is gone",
        "no good yet",
        "older kernel by hand",
        "fell back",
        "last try works",
        "init stepped down",
        "clean mode",
        "neither good nor this one is there",
        "a kernel from elsewhere",
    ],
)
def test_confirm(env: BootEnv, kernel: str, generation: int, newest: int, wanted: BootEnv) -> None:
    assert grubenv.confirm(env, kernel, KERNELS, generation, newest) == wanted


def test_a_save_after_a_fall_back_is_tried() -> None:
    assert grubenv.arm_generation(BootEnv(OLD, "", 0, 6, 0)).gen_tries == grubenv.GENERATION_TRIES


def test_end_of_a_trial() -> None:
    env = grubenv.start_trial(grubenv.initial(OLD), NEW)
    assert (env.good, env.trial, env.tries) == (OLD, NEW, grubenv.KERNEL_TRIES)
    assert grubenv.end_trial(env) == grubenv.initial(OLD)
