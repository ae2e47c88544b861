"""Kernel directories on the ESP: names, order, and which one may go."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ramos import layout
from ramos.boot import grubenv, kernels
from ramos.boot.grubenv import BootEnv
from ramos.boot.kernels import KernelFiles
from ramos.errors import RamosError, UsageError
from ramos.linux.fs import hash_file
from ramos.store.generation import StoredFile


def make_files(tmp_path: Path, text: str, version: str = "6.1.0-9-test") -> KernelFiles:
    folder = tmp_path / f"files-{version}-{text}"
    folder.mkdir(exist_ok=True)
    (folder / "vmlinuz").write_text(f"kernel {text}")
    (folder / "initramfs").write_text(f"initramfs {text}")
    (folder / "modules").write_text(f"modules {text}")
    return KernelFiles(version, folder / "vmlinuz", folder / "initramfs", folder / "modules")


def write(esp: Path, files: KernelFiles) -> str:
    (esp / "kernels").mkdir(parents=True, exist_ok=True)
    name, there = kernels.choose_name(esp, esp.parent, files)
    if not there:
        kernels.write_kernel(esp, name, files)
        shutil.copyfile(files.modules, esp.parent / layout.modules_image(name))
    return name


def test_another_build_of_a_version_gets_a_name_of_its_own(tmp_path: Path) -> None:
    esp = tmp_path / "esp"
    names = [write(esp, make_files(tmp_path, text)) for text in ("a", "b", "a", "b", "c")]
    version = "6.1.0-9-test"
    assert names == [version, f"{version}+2", version, f"{version}+2", f"{version}+3"]
    assert {layout.kernel_version(name) for name in names} == {version}
    assert all(grubenv.KERNEL_PATTERN.fullmatch(name) for name in names)


def test_a_damaged_kernel_is_written_again_under_another_name(tmp_path: Path) -> None:
    esp = tmp_path / "esp"
    name = write(esp, make_files(tmp_path, "a"))
    (esp / "kernels" / name / "initramfs").write_text("flipped")
    assert not kernels.is_whole(esp, name)
    assert write(esp, make_files(tmp_path, "a")) == f"{name}+2"


def test_other_modules_make_another_build(tmp_path: Path) -> None:
    esp = tmp_path / "esp"
    name = write(esp, make_files(tmp_path, "a"))
    other = make_files(tmp_path, "a")
    other.modules.write_text("modules of another build")
    assert write(esp, other) == f"{name}+2"
    assert (tmp_path / layout.modules_image(name)).read_text() == "modules a"


def test_a_name_whose_modules_a_generation_knows_otherwise_is_taken(tmp_path: Path) -> None:
    esp, files = tmp_path / "esp", make_files(tmp_path, "a")
    name = files.version
    other = StoredFile("modules", layout.modules_image(name), 1, "0" * 64, "")
    mine = replace(other, sha256=hash_file(files.modules))
    assert kernels.choose_name(esp, tmp_path, files, [other]) == (f"{name}+2", False)
    assert kernels.choose_name(esp, tmp_path, files, [mine]) == (name, False)
    (tmp_path / layout.modules_image(name)).write_text("of a build that is gone")
    assert kernels.choose_name(esp, tmp_path, files, [mine]) == (f"{name}+2", False)


def test_a_file_that_is_gone_leaves_nothing_behind(tmp_path: Path) -> None:
    esp = tmp_path / "esp"
    (esp / "kernels").mkdir(parents=True)
    files = make_files(tmp_path, "a")
    files.initramfs.unlink()
    with pytest.raises(RamosError, match="It was taken away again"):
        kernels.write_kernel(esp, files.version, files)
    assert kernels.list_all(esp) == []


@pytest.mark.parametrize(
    ("env", "running", "gone"),
    [
        (BootEnv(good="c"), "c", ["a"]),
        (BootEnv(good="c"), "a", ["b"]),
        (BootEnv(good="b", trial="c", tries=2), "b", []),
        (BootEnv(good=""), "c", []),
        (BootEnv(good="x"), "c", []),
    ],
)
def test_which_kernels_are_old(env: BootEnv, running: str, gone: list[str]) -> None:
    assert kernels.plan_removal(["a", "b", "c"], env, running) == gone


@pytest.mark.parametrize(
    ("names", "running", "reason"),
    [
        (["a"], "a", "the one that runs now"),
        (["b", "a"], "a", "the one that runs now"),
        (["b"], "a", "known to boot"),
        (["a", "b", "c"], "x", "the last kernel"),
    ],
)
def test_the_running_the_good_and_the_last_kernel_stay(
    tmp_path: Path, names: list[str], running: str, reason: str
) -> None:
    for name in "abc":
        (tmp_path / "kernels" / name).mkdir(parents=True)
        (tmp_path / "kernels" / name / "complete").touch()
    env = BootEnv(good="" if running in names or running == "x" else "b")
    with pytest.raises(UsageError, match=reason):
        kernels.check_removal(tmp_path, names, env, running)
    kernels.check_removal(tmp_path, ["c"], env, running)


def test_versions_are_sorted_as_people_read_them() -> None:
    names = ["6.1.0-10-amd64", "6.1.0-9-amd64", "6.12.40-0-lts", "6.1.0-9-amd64+2"]
    assert sorted(names, key=kernels.version_key) == [
        "6.1.0-9-amd64",
        "6.1.0-9-amd64+2",
        "6.1.0-10-amd64",
        "6.12.40-0-lts",
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("BOOT_IMAGE=/kernels/6.1+2/vmlinuz ramos.mode=default", "6.1+2"),
        ("BOOT_IMAGE=(hd0,gpt1)/kernels/6.1/vmlinuz", "6.1"),
        ("ramos.mode=default", "6.1"),
        ("BOOT_IMAGE=/kernels/5.9/vmlinuz x", "6.1"),
        ("x BOOT_IMAGE=/kernels/6.1+3/vmlinuz x", "6.1"),
    ],
)
def test_the_running_directory_is_known_from_the_command_line(text: str, name: str) -> None:
    assert kernels.read_command_line(text, "6.1") == name


@pytest.mark.parametrize(
    ("names", "named", "tried"),
    [
        (["6.1.0-10-amd64", "6.1.0-9-amd64"], [], "6.1.0-10-amd64"),
        (["6.1.0-9-amd64", "6.1.0-10-amd64"], ["6.1.0-9-amd64"], "6.1.0-10-amd64"),
        (["6.1.0-10-amd64", "6.1.0-10-cloud-amd64"], [], "6.1.0-10-amd64"),
        (["6.1.0-10-cloud-amd64", "6.1.0-10-rt-amd64"], ["6.1.0-10-cloud-amd64"], 0),
        (["6.1.0-10-cloud-amd64", "6.1.0-10-rt-amd64"], ["6.1.0-10-rt-amd64"], 1),
        (["6.1.0-10-amd64+2", "6.1.0-10-amd64"], [], "6.1.0-10-amd64+2"),
        (["6.12.9+bpo-amd64", "6.1.0-10-amd64"], ["6.1.0-10-amd64"], "6.12.9+bpo-amd64"),
        (["6.12.60-0-virt", "6.12.60-0-lts"], [], "6.12.60-0-virt"),
    ],
)
def test_which_of_two_kernels_is_tried(
    names: list[str], named: list[str], tried: str | int
) -> None:
    wanted = names[tried] if isinstance(tried, int) else tried
    for order in (names, names[::-1]):
        assert kernels.choose_trial(order, "6.1.0-5-amd64+3", named) == wanted


def test_the_kind_that_runs_is_tried() -> None:
    names = ["6.12.60-0-virt", "6.12.60-0-lts"]
    assert kernels.choose_trial(names, "6.12.40-0-lts", []) == "6.12.60-0-lts"
    assert kernels.choose_trial(names, "6.12.40-0-virt", []) == "6.12.60-0-virt"


@pytest.mark.parametrize("part", ["vmlinuz", "initramfs"])
def test_a_kernel_that_reads_back_as_something_else_does_not_count(
    tmp_path: Path, part: str
) -> None:
    """The file that is copied has other bytes each time: what was written is not what was asked."""
    esp = tmp_path / "esp"
    (esp / "kernels").mkdir(parents=True)
    never_the_same = {part: Path("/proc/sys/kernel/random/uuid")}
    files = replace(make_files(tmp_path, "a"), **never_the_same)  # type: ignore[arg-type]
    with pytest.raises(RamosError, match="other bytes than were written"):
        kernels.write_kernel(esp, "6.1.0-9-test", files)
    assert kernels.list_all(esp) == []


def test_a_complete_kernel_is_never_written_over(tmp_path: Path) -> None:
    name = write(tmp_path / "esp", make_files(tmp_path, "one"))
    with pytest.raises(UsageError, match="it is there already"):
        kernels.write_kernel(tmp_path / "esp", name, make_files(tmp_path, "two"))
    assert (tmp_path / f"esp/kernels/{name}/vmlinuz").read_text() == "kernel one"


def test_a_stick_that_gives_back_other_bytes_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def lie(descriptor: int, *_: int) -> None:
        os.pwrite(descriptor, b"?", 0)

    monkeypatch.setattr(os, "posix_fadvise", lie)
    with pytest.raises(OSError, match="other bytes than were written"):
        kernels._write_bytes(tmp_path / "complete", b"6.1\n")
