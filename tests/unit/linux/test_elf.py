"""The libraries of a program, in a tree that is not this machine's."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.linux.elf import find_file, find_libraries, read_dynamic


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a program that has a library in a folder that only it names."""
    own = tmp_path / "tree/opt/own"
    own.mkdir(parents=True)
    build: list[str | Path] = ["gcc", "-x", "c", "-", "-nostdlib", "-shared"]
    library = [*build, "-Wl,-soname,libown.so", "-o", own / "libown.so"]
    subprocess.run(library, input=b"int own;", check=True)
    words = [*build, "-o", own.parent / "program", "-L", own, "-Wl,--no-as-needed", "-lown"]
    words += ["-Wl,-rpath,::$ORIGIN/own"]
    subprocess.run(words, input=b"extern int own; int *p = &own;", check=True)
    return tmp_path / "tree"


def test_a_folder_that_the_program_itself_names_is_searched(tree: Path) -> None:
    dynamic = read_dynamic(tree / "opt/program")
    assert dynamic is not None
    assert dynamic.search == ("$ORIGIN/own",)
    found = find_libraries(tree, ["/opt/program", "/no/such"])
    assert found == {"/opt/own/libown.so": tree / "opt/own/libown.so"}
    shutil.rmtree(tree / "opt/own")
    with pytest.raises(RamosError, match=r"libown\.so"):
        find_libraries(tree, ["/opt/program"])


def test_links_never_leave_the_tree(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").touch()
    (tmp_path / "up").symlink_to("../../../a")
    (tmp_path / "root").symlink_to("/a")
    (tmp_path / "loop").symlink_to("loop")
    assert find_file(tmp_path, "/up/../root/./file") == tmp_path / "a/file"
    assert find_file(tmp_path, "/up/file") == tmp_path / "a/file"
    assert find_file(tmp_path, "/loop") is None
    assert find_file(tmp_path, "/a/none") is None
