"""What long work looks like on a terminal, and that nothing but its ends is left elsewhere."""

import sys
from collections.abc import Callable

import pytest

from ramos.cli.screen import Screen, fold_line, show_kept_step, show_step
from ramos.progress import OnProgress, Progress

WORK = (
    Progress("write"),
    Progress("write", 1, 4, "2.0 MiB/s, 0:03 left"),
    Progress("write", detail="(3/12) Fetching tzdata"),
    Progress("write", detail="[====   ] 40.5% done"),
    Progress("write", detail="WARNING: no tzdata"),
    Progress("write", detail="Reading package lists"),
    Progress("write", detail="12.3 s", ended=True),
    Progress("a note", ended=True),
)


def show(on_progress: OnProgress, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is left of each step of the work on its own."""
    shown = []
    for seen in WORK:
        on_progress(seen)
        out, err = capsys.readouterr()
        assert out == ""
        shown.append(err)
    return shown


@pytest.fixture
def on_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[OnProgress], list[str]]:
    """The same, where a terminal is."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")

    def show_there(on_progress: OnProgress) -> list[str]:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        return show(on_progress, capsys)

    return show_there


def test_a_build_is_a_bar_on_a_terminal(
    on_terminal: Callable[[OnProgress], list[str]],
) -> None:
    begun = f"\r\033[K  {'write':<22} "
    assert on_terminal(lambda seen: Screen(verbose=False).show(seen)) == [
        begun,
        f"{begun}[{'#' * 5:<20}]  25 %  2.0 MiB/s, 0:03 left",
        f"{begun}(3/12) Fetching tzdata",
        f"{begun}[{'#' * 8:<20}]  40 %",
        "\r\033[KWARNING: no tzdata\n",
        "",
        f"\r\033[K  {'write':<22}    12.3 s\n",
        "\r\033[Ka note\n",
    ]


def test_elsewhere_a_build_says_what_runs_and_what_has_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = show(Screen(verbose=False).show, capsys)
    assert left[:4] == ["  write ...\n", "", "", ""]
    assert left[4:] == ["WARNING: no tzdata\n", "", f"  {'write':<22}    12.3 s\n", "a note\n"]


def test_whoever_wants_all_of_it_has_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    left = show(Screen(verbose=True).show, capsys)
    assert left[:2] == ["  write ...\n", "25 % 2.0 MiB/s, 0:03 left\n"]
    assert left[2:6] == [f"{seen.detail}\n" for seen in WORK[2:6]]


def test_a_save_is_one_line(
    on_terminal: Callable[[OnProgress], list[str]],
) -> None:
    left = on_terminal(show_step)
    assert left[0] == "\r\033[Kwrite"
    assert left[1] == "\r\033[Kwrite 25 %  2.0 MiB/s, 0:03 left"
    assert left[5] == "\r\033[Kwrite  Reading package lists"


def test_steps_of_packages_stay_and_what_apt_says_does_not(
    on_terminal: Callable[[OnProgress], list[str]],
) -> None:
    left = on_terminal(show_kept_step)
    assert left[0] == "\r\033[Kwrite\n"
    assert left[5] == "\r\033[K  Reading package lists"


@pytest.mark.parametrize("way", [show_step, show_kept_step])
def test_nobody_looks_on_without_a_terminal(
    way: OnProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(way, capsys) == [""] * len(WORK)


LONG = "ramos: cannot save: the stick: there is no room for 12.3 MiB. " * 3


@pytest.mark.parametrize("columns", [40, 80, 250])
@pytest.mark.parametrize(
    ("head", "indent"),
    [("", 2), ("unsaved      ", 13), ("  hint: ", 4), ("    42  2026-01-01 10:00:00  ", 8)],
)
def test_a_line_is_folded_beside_its_name(head: str, indent: int, columns: int) -> None:
    first, *more = fold_line(head + LONG.rstrip(), columns).split("\n")
    assert first.startswith(head)
    assert bool(more) is (columns < 250)
    assert all(len(line) <= columns for line in (first, *more))
    assert all(len(line) - len(line.lstrip()) == indent for line in more)
    assert " ".join((first, *more)).split() == (head + LONG).split(), "no word is lost"


def test_a_name_is_never_broken() -> None:
    path = "/home/user/" + "a-long-name-" * 12
    assert path in fold_line(f"damaged: {path}: it differs", 80).split()[1] + ":"
    assert fold_line(path, 80) == path
    assert fold_line("x" * 50 + "  said " * 9, 80).split("\n")[1].startswith("  said")


@pytest.mark.parametrize("columns", [30, 80, 200])
@pytest.mark.parametrize("total", [0, 100])
def test_nothing_that_is_written_over_is_wider_than_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, total: int, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    seen = Progress("comparing with what was written", 99, total, "/usr/share/" * 20)
    for on_progress in (show_step, show_kept_step, Screen(verbose=False).show):
        on_progress(seen)
        shown = capsys.readouterr().err.removeprefix("\r\033[K")
        assert len(shown) < min(columns, 80), shown


def test_a_terminal_that_cannot_write_over_has_lines(
    on_terminal: Callable[[OnProgress], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    left = "".join(on_terminal(lambda seen: Screen(verbose=False).show(seen)))
    assert left == f"  write ...\nWARNING: no tzdata\n  {'write':<22}    12.3 s\na note\n"
    assert on_terminal(show_kept_step) == [""] * len(WORK)
