"""Provisioning from the command line, on real loop devices and a real terminal."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

MIB = 1 << 20
REPOSITORY = Path(__file__).resolve().parents[3]
RAMOS = (sys.executable, "-m", "ramos")


def ramos(*words: object) -> subprocess.CompletedProcess[str]:
    argv = [*RAMOS, *(str(word) for word in words)]
    return subprocess.run(
        argv, cwd=REPOSITORY, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def run(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Laid out like a stick, but small."""
    folder = tmp_path_factory.mktemp("image")
    file = folder / "stick.img"
    with file.open("wb") as stream:
        stream.truncate(96 * MIB)
    run("sgdisk", "-n", "1:8M:+16M", "-t", "1:ef00", "-n", "2:32M:+40M", file)
    run("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", f"offset={32 * MIB}", file, "40m")
    return file


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A fixed disk of 256 MiB, full of something."""
    file = tmp_path / "disk"
    with file.open("wb") as stream:
        stream.write(b"precious" * (MIB // 8))
        stream.truncate(256 * MIB)
    path = run("losetup", "--find", "--show", file).strip()
    yield path
    subprocess.run(["losetup", "--detach", path], check=False)


def is_untouched(disk: str) -> bool:
    return Path(disk).open("rb").read(8) == b"precious"


def test_a_disk_is_written_read_back_and_filled(image: Path, disk: str) -> None:
    name = Path(disk).name
    words = ("--allow-fixed", "--batch", "--confirm", name, "--confirm", "fixed")
    done = ramos("image", "write", image, "--device", disk, *words)
    assert done.returncode == 0, done.stderr
    assert "read back" in done.stdout
    assert "No problems found" in run("sgdisk", "-v", disk)
    persist = f"{disk}?offset={32 * MIB}"
    blocks = int(run("dumpe2fs", "-h", persist).split("Block count:")[1].split()[0])
    assert blocks * 4096 == (256 - 32 - 8) * MIB


@pytest.mark.parametrize(
    ("words", "complaint", "code"),
    [
        (("--batch",), "fixed disk", 1),
        (("--batch", "--allow-fixed"), "was not confirmed", 2),
        (("--batch", "--allow-fixed", "--confirm", "sdz", "--confirm", "fixed"), "confirmed", 2),
        (("--batch", "--allow-fixed", "--confirm", "NAME"), "was not confirmed", 2),
    ],
)
def test_what_was_not_asked_for_is_not_done(
    image: Path, disk: str, words: tuple[str, ...], complaint: str, code: int
) -> None:
    words = tuple(word.replace("NAME", Path(disk).name) for word in words)
    done = ramos("image", "write", image, "--device", disk, *words)
    assert (done.returncode, complaint in done.stderr) == (code, True), done.stderr
    assert "Nothing was changed" in done.stderr
    assert is_untouched(disk)


def test_links_files_and_strange_names_are_refused(image: Path, disk: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(disk)
    done = ramos("image", "write", image, "--device", link, "--batch", "--allow-fixed")
    assert f"it is a link to {disk}" in done.stderr
    for path in (image, "/dev/null", "/dev/absent"):
        done = ramos("image", "write", image, "--device", path, "--batch", "--allow-fixed")
        assert "not a disk of this machine" in done.stderr
    assert is_untouched(disk)


def test_a_disk_that_is_too_small_is_refused(disk: str, tmp_path: Path) -> None:
    large = tmp_path / "large.img"
    with large.open("wb") as stream:
        stream.truncate(300 * MIB)
    done = ramos("image", "write", large, "--device", disk, "--batch", "--allow-fixed")
    assert "too small" in done.stderr
    assert is_untouched(disk)


def test_a_mounted_disk_is_refused(image: Path, disk: str, tmp_path: Path) -> None:
    run("mke2fs", "-q", "-t", "ext4", disk)
    run("mount", disk, tmp_path)
    try:
        done = ramos("image", "write", image, "--device", disk, "--batch", "--allow-fixed")
        assert f"mounted at {tmp_path}" in done.stderr
    finally:
        run("umount", tmp_path)


def test_a_mistyped_name_writes_nothing(image: Path, disk: str) -> None:
    words = ["image", "write", str(image), "--device", disk, "--allow-fixed"]
    with_terminal = pexpect.spawn(RAMOS[0], [*RAMOS[1:], *words], cwd=REPOSITORY, timeout=60)
    with_terminal.expect("will be lost")
    with_terminal.expect("to overwrite it")
    with_terminal.sendline("sda")
    with_terminal.expect(r"Nothing\s+was\s+changed")
    with_terminal.expect(pexpect.EOF)
    with_terminal.close()
    assert with_terminal.exitstatus == 2
    assert is_untouched(disk)


def test_without_a_terminal_the_builder_wants_to_be_told(tmp_path: Path) -> None:
    done = ramos("image", "build", "--base", "debian", "--output", tmp_path / "x.img")
    assert done.returncode == 2
    assert "no --batch" in done.stderr
    done = ramos("image", "build", "--batch", "--base", "debian", "--encrypt")
    assert "Give --passphrase-file" in done.stderr


def test_the_plan_says_what_would_be_done_and_does_nothing(disk: str) -> None:
    words = ("--plan", "--base", "debian", "--device", disk, "--allow-fixed")
    done = ramos("image", "build", *words)
    assert (done.returncode, "too small" in done.stderr) == (1, True)
    with Path(disk).open("rb") as held, hold_alone(disk):
        done = ramos("image", "build", *words, "--batch", "--json")
        told = [error["reason"] for error in json.loads(done.stdout)["refused"]]
        assert any("too small" in reason for reason in told)
        assert held.read(8) == b"precious"
    assert is_untouched(disk)


@contextlib.contextmanager
def hold_alone(disk: str) -> Iterator[None]:
    """Somebody else has the disk for himself."""
    descriptor = os.open(disk, os.O_RDWR | os.O_EXCL)
    try:
        yield
    finally:
        os.close(descriptor)


@pytest.fixture
def large_disk(tmp_path: Path) -> Iterator[str]:
    """A fixed disk of 2 GiB, with nothing in it."""
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(2048 * MIB)
    path = run("losetup", "--find", "--show", file).strip()
    yield path
    subprocess.run(["losetup", "--detach", path], check=False)


def test_the_plan_sees_a_disk_that_is_held_or_not_confirmed(large_disk: str) -> None:
    words = ("image", "build", "--plan", "--base", "debian", "--device", large_disk)
    done = ramos(*words, "--allow-fixed")
    assert done.returncode == 0, done.stderr
    assert f"overwrites     {large_disk}" in done.stdout
    assert "read back" in done.stdout
    done = ramos(*words, "--allow-fixed", "--batch")
    assert (done.returncode, "was not confirmed" in done.stderr) == (2, True)
    with hold_alone(large_disk):
        done = ramos(*words, "--allow-fixed")
    assert (done.returncode, "it is in use" in done.stderr) == (1, True)
    done = ramos(*words)
    assert (done.returncode, "fixed disk" in done.stderr) == (1, True)
