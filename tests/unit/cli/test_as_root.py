"""A user who is not root: what needs root runs again through sudo or doas."""

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ramos import cli
from ramos.errors import RefusedError
from ramos.layout import Places


class Replaced(Exception):
    """The process would be another one now."""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system of RAMOS as another user sees it, without any tool to become root."""

    def replace(program: str, argv: list[str]) -> None:
        raise Replaced(program, *argv)

    (tmp_path / "run").mkdir()
    (tmp_path / "run/boot").touch()
    monkeypatch.delenv("RAMOS_TREE", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "execv", replace)
    monkeypatch.setattr(cli, "SAFE_PATH", str(tmp_path))
    monkeypatch.setattr(cli, "Places", lambda: Places.below(tmp_path))
    monkeypatch.setattr(sys, "argv", ["ramos", "pin", "1"])
    return tmp_path


def add_tool(tools: Path, name: str) -> str:
    (tools / name).touch(mode=0o755)
    return str(tools / name)


def run(*words: str) -> BaseException | None:
    return CliRunner().invoke(cli.root, list(words)).exception


@pytest.mark.parametrize("tool", ["sudo", "doas"])
def test_what_needs_root_runs_again(tools: Path, tool: str) -> None:
    program = add_tool(tools, tool)
    stopped = run("pin", "1")
    assert isinstance(stopped, Replaced)
    assert stopped.args == (program, tool, "--", "/usr/bin/ramos", "pin", "1")


@pytest.mark.parametrize("words", [("diff", "1"), ("diff", "1", "2"), ("health", "--scrub")])
def test_a_reading_command_does_for_what_takes_root(tools: Path, words: tuple[str, ...]) -> None:
    add_tool(tools, "sudo")
    assert isinstance(run(*words), Replaced)


@pytest.mark.parametrize(
    "words",
    [
        *(("pin", "--help"), ("vm", "--help"), ("config",), ("--help",)),
        *(("status",), ("diff",), ("log",), ("usage",), ("health",)),
    ],
)
def test_what_everyone_may_do_does_not(tools: Path, words: tuple[str, ...]) -> None:
    add_tool(tools, "sudo")
    assert not isinstance(run(*words), Replaced)


def test_nothing_runs_again_on_another_machine_or_as_root(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tool(tools, "sudo")
    with pytest.raises(Replaced):
        cli.run_again_as_root()
    (tools / "run/boot").unlink()
    cli.run_again_as_root()
    (tools / "run/boot").touch()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    cli.run_again_as_root()


def test_without_a_tool_it_says_so(tools: Path) -> None:  # noqa: ARG001
    error = run("pin", "1")
    assert isinstance(error, RefusedError)
    assert "there is neither sudo nor doas. Nothing was changed" in str(error)
    assert error.hint == "su -c 'ramos pin 1'"
