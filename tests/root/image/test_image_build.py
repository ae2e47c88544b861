"""Whole builds of the minimal Debian image: what is reused, what is the same, what an end leaves.

The root tree comes from the cache of this machine (the VM tests use the same one), so that only
the first run on a machine fetches packages.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ramos.cli.request import default_cache

REPOSITORY = Path(__file__).resolve().parents[3]
OPTIONS = ("--batch", "--base", "debian", "--profile", "minimal", "--swap", "16M")
EPOCH = "1700000000"
OLD = b"an image of yesterday\n"

pytestmark = pytest.mark.xdist_group("image-build")


def command(output: Path, cache: Path, *options: str) -> list[str]:
    argv = [sys.executable, "-m", "ramos", "image", "build", *OPTIONS]
    return [*argv, "--output", str(output), "--cache", str(cache), *options]


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **extra}


def build(output: Path, cache: Path, *options: str, **extra: str) -> dict[str, Any]:
    """Build, and give what --json says."""
    argv = command(output, cache, "--json", *options)
    done = subprocess.run(
        argv, env=environment(**extra), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def fail(output: Path, cache: Path, *options: str, **extra: str) -> str:
    """Build, and give what is said when it cannot be."""
    argv = command(output, cache, *options)
    done = subprocess.run(
        argv, env=environment(**extra), capture_output=True, text=True, check=False
    )
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(cache.glob("work-*"))
    return done.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cache's root trees, with the one for these options in it."""
    build(tmp_path_factory.mktemp("first") / "first.img", default_cache())
    return default_cache() / "trees"


@pytest.fixture
def cache(tree: Path, tmp_path: Path) -> Path:
    """A cache that has the root tree and nothing else."""
    return seed_cache(tree, tmp_path / "cache")


def seed_cache(tree: Path, cache: Path) -> Path:
    cache.mkdir()
    # What may be mounted in a tree is no part of it: the memory of processes is without an end.
    links = ["cp", "-a", "-x", "--link", str(tree), str(cache / "trees")]
    if subprocess.run(links, capture_output=True, check=False).returncode != 0:
        subprocess.run(["cp", "-a", "-x", "-T", tree, cache / "trees"], check=True)
    return cache


def list_mounts() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def list_users(word: str) -> list[str]:
    """Command lines of processes that mention a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if word in line:
                found.append(line)
    return found


@dataclass(frozen=True)
class Warm:
    """A cache that has been built from, and what came out."""

    cache: Path
    image: Path
    told: dict[str, Any]


@pytest.fixture(scope="module")
def warm(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Warm:
    directory = tmp_path_factory.mktemp("warm")
    cache, image = seed_cache(tree, directory / "cache"), directory / "one.img"
    return Warm(cache, image, build(image, cache, SOURCE_DATE_EPOCH=EPOCH))


def test_a_second_build_reuses_everything_that_is_the_same(warm: Warm, tmp_path: Path) -> None:
    assert set(warm.told["reused"]) == {"root tree"}
    output = tmp_path / "other.img"
    other = build(output, warm.cache, "--hostname", "other", SOURCE_DATE_EPOCH=EPOCH)
    assert set(other["reused"]) == {"root tree", "modules", "firmware"}
    again = build(output, warm.cache, SOURCE_DATE_EPOCH=EPOCH)
    assert set(again["reused"]) == {"root tree", "initramfs", "rootfs", "modules", "firmware"}


def test_two_builds_are_bit_identical(warm: Warm, cache: Path, tmp_path: Path) -> None:
    image = tmp_path / "two.img"
    told = build(image, cache, SOURCE_DATE_EPOCH=EPOCH)
    assert set(told["reused"]) == {"root tree"}
    assert subprocess.run(["cmp", warm.image, image], check=False).returncode == 0


@contextlib.contextmanager
def running_build(cache: Path, output: Path, step: str) -> Iterator["subprocess.Popen[str]"]:
    """A build that has just ended a step."""
    argv = command(output, cache, "--hostname", "interrupted")
    with subprocess.Popen(
        argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip().startswith(step) and not line.rstrip().endswith("..."):
                break
        else:
            pytest.fail(f"the build never reached {step}")
        yield process


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("find the release", signal.SIGINT),
        ("initramfs", signal.SIGTERM),
        ("persist", signal.SIGINT),
        ("persist", signal.SIGKILL),
    ],
)
def test_an_end_at_any_moment(cache: Path, tmp_path: Path, step: str, number: int) -> None:
    output = tmp_path / "stick.img"
    output.write_bytes(OLD)
    mounts = list_mounts()
    with running_build(cache, output, step) as process:
        process.send_signal(number)
        assert process.wait(60) != 0
    assert output.read_bytes() == OLD
    assert list_mounts() == mounts
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert not list(cache.glob("work-*"))
        assert not list(tmp_path.glob("*.part"))
        assert not list_users(str(cache))
        return
    # Nobody could clean up: the next build does.
    told = build(output, cache, "--hostname", "interrupted")
    assert output.stat().st_size == told["size_bytes"]
    assert not list(cache.glob("work-*"))
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("room", "told"), [("100m", "100.0 MiB are free there"), ("180m", "No space left")]
)
def test_a_full_disk(warm: Warm, tmp_path: Path, room: str, told: str) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", small], check=True)
    output = small / "stick.img"
    said = fail(output, warm.cache, SOURCE_DATE_EPOCH=EPOCH)
    assert told in said
    assert str(small) in said
    assert not list(small.iterdir())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--release", "bookwurm"), "bookwurm"),
        (("--mirror", "http://127.0.0.1:9/debian"), "127.0.0.1:9"),
        (("--size", "300M"), "too small"),
        (("--user", "Root"), "Root"),
        (("--timezone", "Mars/Olympus"), "Mars/Olympus"),
        (("--keys", "/no/such/keyring"), "/no/such/keyring"),
        (("--password-file", "/no/such/file"), "/no/such/file"),
        (("--init", "alpine"), "alpine"),
    ],
)
def test_bad_input(cache: Path, tmp_path: Path, options: tuple[str, ...], named: str) -> None:
    output = tmp_path / "stick.img"
    assert named in fail(output, cache, *options)
    assert not output.exists()
