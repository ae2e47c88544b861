"""Running other programs: the only place that starts a process.

Owns: how a command is started, timed out and reported. Refuses: shells (a command is a list).
Invariant: a command that fails says its name, its exit status and the last thing it printed.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ramos.errors import RamosError

TAIL_LINES = 6
PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
Arg = str | bytes | Path
Process: TypeAlias = "subprocess.Popen[bytes]"
# Who hears each line that a program prints.
OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What a finished command left behind."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last newline."""
        return self.stdout.decode("utf-8", "replace").rstrip("\n")

    @property
    def complaint(self) -> str:
        """The last lines it printed on standard error (or, without any, on standard output)."""
        text = (self.stderr or self.stdout).decode("utf-8", "replace").strip()
        return " | ".join(text.splitlines()[-TAIL_LINES:])


def find_missing(commands: Iterable[str]) -> list[str]:
    """Those of `commands` that are not on this machine."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [command for command in commands if shutil.which(command, path=path) is None]


def run(
    argv: Sequence[Arg],
    *,
    stdin: bytes | int | None = None,
    check: bool = True,
    timeout_seconds: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Result:
    """Run a command to its end; with `check`, a non-zero status is an error."""
    words = [os.fsdecode(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin if isinstance(stdin, bytes) else None,
            stdin=None
            if isinstance(stdin, bytes)
            else (subprocess.DEVNULL if stdin is None else stdin),
            capture_output=True,
            timeout=timeout_seconds,
            env=_environment(env),
            cwd=cwd,
            pass_fds=pass_fds,
            check=False,
        )
    except FileNotFoundError:
        raise _missing(words[0]) from None
    except subprocess.TimeoutExpired:
        raise RamosError("command failed", words[0], f"no end after {timeout_seconds} s") from None
    result = Result(done.returncode, done.stdout, done.stderr)
    if check and result.code != 0:
        raise failure(words, result)
    return result


def failure(argv: Sequence[Arg], result: Result) -> RamosError:
    """The error for a command that ended with a status that was not wanted."""
    name = os.fsdecode(argv[0])
    how = f"signal {-result.code}" if result.code < 0 else f"exit status {result.code}"
    return RamosError("command failed", name, f"{how}: {result.complaint or 'it printed nothing'}")


def run_watched(
    argv: Sequence[Arg],
    on_line: OnLine,
    env: Mapping[str, str] | None = None,
    **kwargs: object,
) -> Result:
    """Run a command and hand over each line (or carriage-returned part) that it prints."""
    words = [os.fsdecode(word) for word in argv]
    tail: list[str] = []
    with started(words, env, **kwargs) as process:
        assert process.stdout is not None
        for line in _split_lines(process.stdout.fileno()):
            tail = [*tail[-TAIL_LINES:], line]
            on_line(line)
        code = process.wait()
    result = Result(code, "\n".join(tail).encode(), b"")
    if code != 0:
        raise failure(words, result)
    return result


@contextlib.contextmanager
def started(
    argv: Sequence[Arg], env: Mapping[str, str] | None = None, **kwargs: object
) -> Iterator[Process]:
    """Start a command with its output on one pipe; it is ended with the block, whatever happens."""
    words = [os.fsdecode(word) for word in argv]
    options: dict[str, object] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        **kwargs,
        "env": _environment(env),
    }
    try:
        process: Process = subprocess.Popen(words, **options)  # type: ignore[call-overload]
    except FileNotFoundError:
        raise _missing(words[0]) from None
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _missing(command: str) -> RamosError:
    hint = "Install the package that brings it and try again."
    return RamosError("cannot run", command, "this machine does not have it", hint=hint)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """A plain locale, and the system's own directories on the path."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
    return {**os.environ, "LC_ALL": "C.UTF-8", "PATH": path, **(extra or {})}


def _split_lines(descriptor: int) -> Iterator[str]:
    """Lines as they arrive, where a carriage return ends a line too (progress bars)."""
    rest = b""
    while chunk := os.read(descriptor, 65536):
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in lines if line)
    if rest:
        yield rest.decode("utf-8", "replace")
