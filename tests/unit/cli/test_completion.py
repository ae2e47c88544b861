"""What a shell is told of this command: completion, guesses at a mistyped word, the manual."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from ramos.cli import COMMANDS, COMPLETION_VARIABLE, root
from ramos.cli.completion import SHELLS
from tests.conftest import REPOSITORY
from tests.lint.test_docs import LEAVES

# As a shell that asks for the words after `ramos sta`, and for options.
ASK = """
COMP_WORDS=(ramos {words}) COMP_CWORD={number}
_ramos_completion ramos
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def ramos(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **more}
    argv = [sys.executable, "-m", "ramos", *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell: str) -> None:
    done = ramos("completion", shell)
    assert done.returncode == 0, done.stderr
    assert f"_RAMOS_COMPLETE={shell}_complete" in done.stdout
    assert "\\t" not in done.stdout, "a tab that was escaped"
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "number", "found"),
    [("sta", 1, "status"), ("pkg up", 2, "upgrade"), ("commit --m", 2, "--message")],
)
def test_bash_completes(tmp_path: Path, words: str, number: int, found: str) -> None:
    launcher = tmp_path / "ramos"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m ramos "$@"\n')
    launcher.chmod(0o755)
    text = ramos("completion", "bash").stdout + ASK.format(words=words, number=number)
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    done = subprocess.run(
        ["bash", "-c", text], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    assert found in done.stdout.split()


def test_completion_never_becomes_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever presses a key is not asked for a password."""
    monkeypatch.setattr("ramos.cli.run_again_as_root", lambda: pytest.fail("it would"))
    complete = ShellComplete(root, {}, "ramos", COMPLETION_VARIABLE)
    assert complete.get_completions(["status"], "--j")[0].value == "--json"


@pytest.mark.parametrize(("name", "command"), LEAVES, ids=[name for name, _ in LEAVES])
def test_every_option_is_completed(name: str, command: click.Command) -> None:
    complete = ShellComplete(root, {}, "ramos", COMPLETION_VARIABLE)
    offered = {item.value for item in complete.get_completions(name.split()[1:], "--")}
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    assert offered >= {max(option.opts, key=len) for option in options}


def test_a_mistyped_option_is_told_what_it_may_have_meant() -> None:
    assert re.search("No such option.*--jsn.*--json", ramos("status", "--jsn").stderr)


@pytest.mark.parametrize(
    ("words", "guess"),
    [(["comit"], "commit"), (["vm", "rum"], "run"), (["pkg", "upgrad"], "upgrade")],
)
def test_a_mistyped_command_is_told_what_it_may_have_meant(words: list[str], guess: str) -> None:
    done = ramos(*words)
    assert done.returncode == 2
    assert re.search(rf"No such command '{words[-1]}'.*Did you mean .*{guess}", done.stderr)
    assert done.stderr.count("Did you mean") == 1
    assert "Did you mean" not in ramos("xyzzy").stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_the_manual_knows_every_command(name: str) -> None:
    page = (REPOSITORY / "man/ramos.1").read_text().replace("\\-", "-")
    assert re.search(rf"ramos {name}\b", page.partition(".SH COMMANDS")[2])
