"""What is left of a change that failed or was cut: the stick's repository as it was before.

It holds what is installed, its indexes are whole and signed, and the next upgrade works.
"""

from pathlib import Path

import pytest

from ramos.boot.esp import read_env
from ramos.boot.kernels import list_complete
from ramos.errors import RamosError
from ramos.packages import change, debian, engine, journal, repository
from tests.labs.packagelab import NEW, OLD, Lab, add_kernel, make_lab, run_until

KERNEL, META = f"linux-image-{NEW}", "linux-image-test"
FIRST, SECOND = "6.1.2-1", "6.1.2-2"


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A kernel came by the engine, and the mirror has another build of it."""
    del private_mounts
    lab = make_lab(tmp_path, monkeypatch)
    offer(lab, FIRST)
    lab.add(META)
    assert list_labels(lab) == {(KERNEL, FIRST), (META, FIRST)}
    offer(lab, SECOND)
    return lab


def offer(lab: Lab, version: str) -> None:
    """The mirror has this build and no other one."""
    for old in lab.mirror.folder.glob("*.deb"):
        old.unlink()
    add_kernel(lab.mirror, NEW, version, ballast=version.encode())
    lab.mirror.publish()


def list_labels(lab: Lab) -> set[tuple[str, str]]:
    return {debian.read_label(path) for path in debian.list_packages(lab.site)}


def read_packages(lab: Lab) -> dict[str, bytes]:
    """Everything below packages/, but for what bears the time of the last signature."""
    found = (path for path in sorted(lab.site.packages.rglob("*")) if path.is_file())
    return {str(p): p.read_bytes() for p in found if not p.name.startswith("Release")}


def check_repository(lab: Lab, version: str) -> None:
    """apt takes the indexes, and gets what is installed from there once more."""
    for words in (["update"], ["check"], ["install", "--reinstall", f"{KERNEL}={version}"]):
        done = lab.apt("-o", "APT::Update::Error-Mode=any", *words)
        assert done.returncode == 0, done.stdout + done.stderr
    for name in (KERNEL, META):
        assert lab.status(name) == f"ii  {version}"
    left = [p.name for p in lab.site.packages.rglob("*") if p.suffix in (".tmp", ".replaced")]
    assert left == []
    assert not journal.journal_path(lab.site.persist).exists()


def check_upgrade(lab: Lab) -> None:
    """The next upgrade brings all of it, and the old versions go."""
    lab.upgrade()
    assert list_labels(lab) == {(KERNEL, SECOND), (META, SECOND)}
    check_repository(lab, SECOND)
    assert read_env(lab.esp).trial == f"{NEW}+2"


def recover(lab: Lab) -> journal.Recovery:
    with engine.workplace(lab.site):
        return change.recover(lab.site)


def test_an_upgrade_that_apt_refuses(lab: Lab) -> None:
    before = read_packages(lab)
    lab.mirror.add(
        {"Package": META, "Version": SECOND, "Architecture": "amd64", "Depends": "nobody-has-it"},
        {},
    )
    lab.mirror.publish()
    with pytest.raises(RamosError, match="cannot install"):
        lab.upgrade()
    assert read_packages(lab) == before
    check_repository(lab, FIRST)
    offer(lab, SECOND)
    check_upgrade(lab)


def test_an_upgrade_that_dpkg_breaks_off(lab: Lab) -> None:
    """Only dpkg finds out that two packages have the same file; the first one is unpacked then."""
    plain = {"Package": "plain", "Version": "1", "Architecture": "all"}
    lab.mirror.add(plain, {"etc/clash": b"x"})
    lab.mirror.publish()
    assert lab.apt("update").returncode == 0
    assert lab.apt("install", "plain").returncode == 0
    before = read_packages(lab)
    lab.mirror.add(
        {"Package": META, "Version": SECOND, "Architecture": "amd64", "Depends": KERNEL},
        {"etc/clash": b"y"},
    )
    lab.mirror.publish()
    with pytest.raises(RamosError, match="cannot install"):
        lab.upgrade()
    assert read_packages(lab) == before
    assert list_complete(lab.esp) == [OLD, NEW]
    check_repository(lab, FIRST)
    offer(lab, SECOND)
    check_upgrade(lab)


def test_a_file_of_the_same_name_comes_back_too(lab: Lab) -> None:
    """Another package of a version that the repository has: the list of packages was not saved."""
    ours = debian.find_repository(lab.site) / f"{KERNEL}_{FIRST}_amd64.deb"
    kept = ours.read_bytes()
    contents = {str(ours.relative_to(lab.site.packages)): b"of another recipe", "left/new": b"x"}
    new = repository.list_new(lab.site, contents)
    assert new == ("left/new",)
    for _ in range(2):
        repository.bring(lab.site, contents)
        assert ours.read_bytes() == b"of another recipe"
        repository.take_back(lab.site, new)
        repository.take_back(lab.site, new)
        assert ours.read_bytes() == kept
    check_repository(lab, FIRST)
    assert not (lab.site.packages / "left/new").exists()


UNDONE = (
    "transaction-begun",
    "publish-after-rename:Packages",
    "publish-before-rename:Release.gpg",
    "kernel-written",
    "kernel-complete",
)


@pytest.mark.parametrize("cut", UNDONE)
def test_a_change_that_was_cut_is_undone(lab: Lab, cut: str) -> None:
    before = read_packages(lab)
    lab.add_until(cut, META)
    assert set(recover(lab).undone) == {f"{KERNEL}={SECOND}", f"{META}={SECOND}"}
    assert read_packages(lab) == before
    assert list_complete(lab.esp) == [OLD, NEW]
    check_repository(lab, FIRST)
    check_upgrade(lab)


def test_a_change_that_was_cut_late_is_finished(lab: Lab) -> None:
    """The kernel is tried; what dpkg knows, and what the repository has for it, is the old."""
    lab.add_until("transaction-ready", META)
    assert set(recover(lab).finished) == {f"{KERNEL}={SECOND}", f"{META}={SECOND}"}
    assert read_env(lab.esp).trial == f"{NEW}+2"
    assert (KERNEL, FIRST) in list_labels(lab)
    check_repository(lab, FIRST)
    check_upgrade(lab)


@pytest.mark.parametrize("cut", ["transaction-undone", "publish-after-rename:Packages"])
def test_the_undoing_is_cut_as_well(lab: Lab, cut: str) -> None:
    before = read_packages(lab)
    lab.add_until("kernel-complete", META)
    run_until(cut, lambda: recover(lab))
    assert recover(lab).undone
    assert read_packages(lab) == before
    check_repository(lab, FIRST)
    check_upgrade(lab)
