"""The journal of a change of packages names what is deleted: a stranger's name is refused."""

from pathlib import Path

import pytest

from ramos.boot.kernels import list_all, list_complete
from ramos.errors import DamagedError
from ramos.packages import journal
from ramos.packages.journal import Journal

GOOD = Journal(
    packages=("linux-image=1",),
    kernels=("6.1.2", "6.1.2+r2"),
    images=("modules-6.1.2.squashfs",),
    files=("pool/linux.deb", "Packages"),
    trial=("6.1.2",),
)


def write(persist: Path, begun: Journal) -> None:
    path = journal.journal_path(persist)
    path.parent.mkdir()
    path.write_text(journal.render(begun))


def test_a_journal_comes_back_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    assert journal.read_journal(tmp_path) == GOOD


@pytest.mark.parametrize("name", ["..", ".", "", "/etc", "../user", "a/../../user", "6.1/../.."])
def test_a_hostile_name_is_refused(tmp_path: Path, name: str) -> None:
    names = (name,)
    journals = (
        Journal(kernels=names),
        Journal(images=names),
        Journal(files=names),
        Journal(trial=names),
    )
    for number, begun in enumerate(journals):
        persist = tmp_path / str(number)
        persist.mkdir()
        write(persist, begun)
        with pytest.raises(DamagedError, match="Nothing was taken away"):
            journal.read_journal(persist)


def test_a_hostile_link_is_no_kernel(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/complete").touch()
    (tmp_path / "kernels/6.1").mkdir(parents=True)
    (tmp_path / "kernels/6.1/complete").touch()
    (tmp_path / "kernels/6.2").symlink_to(tmp_path / "elsewhere")
    assert list_complete(tmp_path) == ["6.1"]
    assert list_all(tmp_path) == ["6.1"]
