"""Which base `auto` takes; a mirror that answers badly, in part or slowly stops nothing."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ramos.errors import RamosError, UsageError
from ramos.image import alpine, alpine_source, bases, build, mirror
from ramos.image.plan import Plan
from ramos.progress import Progress
from tests.unit.image.test_mirror import serve

OK = b"HTTP/1.0 200 OK\r\n\r\n"
GONE = b"HTTP/1.0 404 Not Found\r\n\r\n"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "cache").mkdir()
    return Plan("auto", tmp_path / "ramos.img", tmp_path / "cache")


def test_the_mirror_is_the_public_one_unless_another_is_named(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    if alpine_source.HOST_REPOSITORIES.exists():
        pytest.skip("this machine runs Alpine")
    assert alpine_source.find_mirror(plan) == "", "no test asks the world"
    monkeypatch.delenv(alpine_source.MIRROR_VARIABLE)
    assert alpine_source.find_mirror(plan) == "https://dl-cdn.alpinelinux.org/alpine"
    monkeypatch.setenv(alpine_source.MIRROR_VARIABLE, "https://mirror.example/alpine/")
    assert alpine_source.find_mirror(plan) == "https://mirror.example/alpine"
    assert alpine_source.find_mirror(replace(plan, mirror="/srv/alpine")) == "/srv/alpine"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (GONE, "does not have it"),
        (OK + b"<html>Please log in</html>", "not a package, or damaged"),
        (OK, "truncated"),
        (b"nonsense", "nonsense"),
    ],
)
def test_a_mirror_that_is_none_is_not_chosen(plan: Plan, answer: bytes, reason: str) -> None:
    with serve(answer) as url:
        said = alpine.probe(replace(plan, base="alpine", mirror=url))
    assert url in said
    assert reason in said
    assert not list((plan.cache / "alpine").iterdir())


def test_a_mirror_that_drips_is_given_up(tmp_path: Path) -> None:
    started = time.monotonic()
    with serve(OK + b"x" * (4 << 20)) as url, pytest.raises(RamosError, match="longer than 0 s"):
        mirror.fetch(url, "f", tmp_path / "f", limit_bytes=1 << 30, total_seconds=0, tries=1)
    assert time.monotonic() - started < mirror.TIMEOUT_SECONDS
    assert list(tmp_path.iterdir()) == []


def hide_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What builds Debian is not here: nothing is built, and the error is Debian's."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name in ("openssl", "unshare", "chroot", "cp", "zstd", "apt-config", "apt-get", "dpkg-deb"):
        (bin_folder / name).symlink_to(shutil.which(name) or "/none")
    for path in Path("/usr/bin").iterdir():
        if path.name.startswith(("m", "sg", "grub", "deb")) and path.name != "mmdebstrap":
            (bin_folder / path.name).symlink_to(path)
    monkeypatch.setenv("PATH", str(bin_folder))


@pytest.fixture
def empty_mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """It answers, and has nothing."""
    with serve(GONE) as url:
        monkeypatch.setenv(alpine_source.MIRROR_VARIABLE, url)
        yield url


@pytest.mark.usefixtures("empty_mirror")
def test_what_stops_alpine_brings_debian(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_debian(tmp_path, monkeypatch)
    events: list[Progress] = []
    chosen = bases.settle_init(replace(plan, base="alpine"))
    with pytest.raises(RamosError) as caught:
        build.build_or_fall_back(chosen, "", events.append)
    assert (caught.value.what, caught.value.obj) == ("cannot build", "mmdebstrap")
    notes = [seen.step for seen in events if seen.ended]
    assert len(notes) == 1
    assert notes[0].startswith("base: debian (alpine: ")


@pytest.mark.parametrize("more", ["release", "mirror", "keys"])
def test_what_only_alpine_knows_is_not_built_as_debian(
    plan: Plan, more: str, empty_mirror: str
) -> None:
    asked: dict[str, Any] = {"release": "3.23", "mirror": empty_mirror, "keys": Path("/")}
    chosen = bases.settle_init(replace(plan, base="alpine", **{more: asked[more]}))
    with pytest.raises(RamosError) as caught:
        build.build_or_fall_back(chosen, "", lambda _: None)
    assert caught.value.hint.endswith("--base debian.")


def test_what_no_base_would_do_is_refused_at_once(plan: Plan) -> None:
    events: list[Progress] = []
    chosen = bases.settle_init(replace(plan, base="alpine", hostname="-"))
    with pytest.raises(UsageError, match="--hostname"):
        build.build_or_fall_back(chosen, "", events.append)
    assert events == []
