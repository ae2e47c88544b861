"""Every refusal of a build: met by `--plan`, by the questions, and by the build before it begins.

One list says how each is provoked; a check that nothing in it provokes fails the last test.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ramos.cli import image, provision, request, wizard
from ramos.cli.dialog import Dialog
from ramos.cli.questions import GO_ON, list_questions
from ramos.errors import RamosError
from ramos.image import alpine_source, checks, grub, tools
from ramos.image.checks import Check
from ramos.vm import firmware

DISKS = {
    "blockdevices": [
        {"name": name, "path": f"/dev/{name}", "type": "disk", "size": size, "rm": True, **more}
        for name, size, more in (
            ("sdz", 8 << 30, {}),
            ("sdtiny", 128 << 20, {}),
            ("sdro", 8 << 30, {"ro": True}),
            ("sdfixed", 8 << 30, {"rm": False}),
        )
    ]
}
FULL = SimpleNamespace(free=1 << 20)
QEMU = ("qemu-system-x86_64", "qemu-img", "setpriv")


@dataclass(frozen=True)
class Machine:
    """A machine on which everything is there that a build needs, and nothing can be harmed."""

    folder: Path

    @property
    def programs(self) -> Path:
        """The folder of its programs."""
        return self.folder / "programs"

    def options(self, *words: str) -> dict[str, Any]:
        """What the command is called with: a Debian of a mirror in a folder."""
        given = {"--base": "debian", "--output": "x.img", "--cache": "cache", "--keys": "keys"}
        given |= {"--mirror": "mirror", "--release": "bookworm"}
        places = ("--output", "--cache", "--keys", "--mirror")
        argv = [
            word
            for name, value in given.items()
            if name not in words and not (name == "--output" and "--device" in words)
            for word in (name, str(self.folder / value) if name in places else value)
        ]
        argv += [word.replace("HERE", str(self.folder)) for word in words]
        return dict(image.build_command.make_context("build", argv).params)


def make_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    for name in ("programs", "cache", "mirror/dists/bookworm", "zones", "layouts", "grub"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("mirror/dists/bookworm/InRelease", "zones/UTC", "layouts/us", "keys", "ovmf"):
        (tmp_path / name).write_text("x\n")
    for name in (*tools.PACKAGES, *QEMU):
        (tmp_path / "programs" / name).symlink_to("/bin/true")
    (tmp_path / "programs/lsblk").unlink()
    (tmp_path / "programs/lsblk").write_text(f"#!/bin/sh\necho '{json.dumps(DISKS)}'\n")
    (tmp_path / "programs/lsblk").chmod(0o755)
    for name in grub.PLATFORMS:
        (tmp_path / "grub" / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    monkeypatch.setattr(grub, "GRUB_DIR", tmp_path / "grub")
    monkeypatch.setattr(checks, "ZONES", tmp_path / "zones")
    monkeypatch.setattr(checks, "LAYOUTS", tmp_path / "layouts")
    ovmf = str(tmp_path / "ovmf")
    monkeypatch.setattr(firmware, "OVMF_PAIRS", ((ovmf, ovmf),))
    request._check_source.cache_clear()
    request.settle_base.cache_clear()
    return Machine(tmp_path)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return make_machine(tmp_path, monkeypatch)


@dataclass(frozen=True)
class Case:
    """A refusal: what is asked for, what is said, and which answer to which question means it."""

    told: str
    words: tuple[str, ...] = ()
    answer: tuple[str, str] = ("", "")
    harm: Callable[[Machine, pytest.MonkeyPatch], object] = field(default=lambda *_: None)


def remove(name: str) -> Callable[[Machine, pytest.MonkeyPatch], object]:
    return lambda machine, _: (machine.programs / name).unlink()


def write(name: str, data: bytes) -> Callable[[Machine, pytest.MonkeyPatch], object]:
    return lambda machine, _: (machine.folder / name).write_bytes(data)


CASES = {
    "user": Case("bad --user", ("--user", "A B"), ("user", "A B")),
    "user taken": Case("the system uses it", ("--user", "root"), ("user", "root")),
    "hostname": Case("bad --hostname", ("--hostname", "-"), ("hostname", "-")),
    "timezone": Case("bad --timezone", ("--timezone", "../x"), ("timezone", "../x")),
    "no zone": Case("unknown time zone", ("--timezone", "Mars/X"), ("timezone", "Mars/X")),
    "keymap": Case("bad --keymap", ("--keymap", "X;"), ("keymap", "X;")),
    "no layout": Case("unknown keyboard", ("--keymap", "xx"), ("keymap", "xx")),
    "package": Case("bad --packages", ("--packages", "--x")),
    "console": Case("bad --console", ("--console", "lp0")),
    "release": Case("bad --release", ("--release", "A B")),
    "no release": Case("unknown release", ("--release", "bookwurm")),
    "no size": Case("not a size", ("--size", "lots")),
    "size": Case("too small", ("--size", "400M")),
    "size of a profile": Case("too small", ("--size", "700M"), ("profile", "rescue")),
    "output is a folder": Case("it is a directory", ("--output", "HERE"), ("output", "HERE")),
    "output is a device": Case(
        "it is a device", ("--output", "/dev/null"), ("output", "/dev/null")
    ),
    "nowhere": Case("there is no directory", ("--output", "/none/x"), ("output", "/none/x")),
    "cache is a file": Case("is not a directory", ("--cache", "HERE/keys")),
    "no program": Case("missing on this machine", harm=remove("mksquashfs")),
    "no GRUB": Case(
        "missing on this machine", harm=lambda machine, _: (machine.folder / "grub/i386-pc").rmdir()
    ),
    "no openssl": Case(
        "openssl: missing", ("--password-file", "HERE/keys"), harm=remove("openssl")
    ),
    "no room": Case(
        "are free there",
        harm=lambda _, patch: patch.setattr("shutil.disk_usage", lambda _: FULL),
    ),
    "no keys": Case("there is no such keyring", ("--keys", "/none")),
    "keys of Alpine": Case("it is a directory", ("--keys", "HERE")),
    "no mirror": Case("mirror does not answer", ("--mirror", "http://127.0.0.1:9/d")),
    "Alpine's init": Case("Alpine has OpenRC", ("--base", "alpine", "--init", "systemd")),
    "Alpine's keys": Case("there is no *.pub", ("--base", "alpine", "--keys", "HERE/zones")),
    "Alpine's mirror": Case(
        "no mirror is known",
        ("--base", "alpine", "--mirror", alpine_source.NO_MIRROR),
    ),
    "no base": Case("cannot choose a base", ("--base", "auto", "--keys", "/none")),
    "epoch": Case(
        "bad SOURCE_DATE_EPOCH", harm=lambda _, patch: patch.setenv("SOURCE_DATE_EPOCH", "now")
    ),
    "no password": Case("cannot read password", ("--password-file", "/none")),
    "two passwords": Case(
        "one line of text", ("--password-file", "HERE/p"), harm=write("p", b"a\nb\n")
    ),
    "for nothing": Case("there is no --encrypt", ("--passphrase-file", "HERE/keys")),
    "no passphrase": Case("cannot read passphrase", ("--encrypt", "--passphrase-file", "/none")),
    "an empty one": Case(
        "it is empty",
        ("--encrypt", "--passphrase-file", "HERE/p"),
        ("passphrase", ""),
        harm=write("p", b"\n"),
    ),
    "nobody": Case("nobody can be asked", ("--encrypt", "--batch")),
    "two places": Case("--device says where", ("--device", "/dev/sdz", "--output", "x.img")),
    "no disk": Case("not a disk of this machine", ("--device", "/dev/none")),
    "a link": Case("it is a link to", ("--device", "HERE/programs/mcopy")),
    "small disk": Case("it is too small", ("--device", "/dev/sdtiny"), ("path", "sdtiny")),
    "read-only": Case("write-protected", ("--device", "/dev/sdro")),
    "fixed": Case("it is a fixed disk", ("--device", "/dev/sdfixed")),
    "gone": Case("cannot write: /dev/sdz", ("--device", "/dev/sdz"), ("path", "sdz")),
    "unconfirmed": Case("it was not confirmed", ("--device", "/dev/sdz", "--batch")),
    "try a disk": Case("no image that could be", ("--device", "/dev/sdz", "--try")),
    "no QEMU": Case("cannot run a virtual machine", ("--try",), harm=remove("qemu-img")),
    "no UEFI": Case(
        "cannot boot by UEFI",
        ("--try",),
        harm=lambda _, patch: patch.setattr(firmware, "OVMF_PAIRS", ()),
    ),
}


def find_all(options: dict[str, Any], **more: Any) -> list[str]:
    """What is said against some options."""
    try:
        found = request.find_refusals(request.read_request(options), **more)
    except RamosError as error:
        return [str(error)]
    return [str(refusal.error) for refusal in found]


def provoke(name: str, machine: Machine, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    CASES[name].harm(machine, patch)
    return machine.options(*CASES[name].words)


def test_nothing_stands_against_what_can_be_built(machine: Machine) -> None:
    assert find_all(machine.options()) == []
    assert find_all(machine.options("--try")) == []
    assert find_all(machine.options("--encrypt", "--passphrase-file", "HERE/keys")) == []
    assert [*(machine.folder / "cache").iterdir()] == []


@pytest.mark.parametrize("name", CASES)
def test_plan_and_build_say_it_before_anything_is_done(
    name: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, told = provoke(name, machine, monkeypatch), CASES[name].told
    assert any(told in text for text in find_all(options)), find_all(options)
    # What the first step of a build says itself, a moment later.
    its_own = ("release", "keyring", "directory", "answer", "OpenRC", "*.pub", "mirror is known")
    if not any(told.endswith(word) or word in told for word in its_own):
        assert any(told in text for text in find_all(options, only_quick=True))
    assert not (machine.folder / "x.img").exists()


def make_dialog(options: dict[str, Any], asked: Iterable[str]) -> Dialog:
    """The questions, all of them open but for what is given otherwise."""
    questions = list_questions(
        lambda name: name in asked,
        provision.list_offered(),
        lambda told: request.read_request(told).plan.base,
    )
    return wizard.make_dialog(questions, options)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.answer[0]])
def test_who_is_asked_hears_it_at_once_and_is_asked_again(
    name: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    case.harm(machine, monkeypatch)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    size = ("--size", "700M") if name == "size of a profile" else ()
    options = {**machine.options("--profile", "minimal", *size), "output": None}
    options["encrypt"] = case.answer[0] == "passphrase"
    asked = {"profile", "path", "output", "user", "hostname", "timezone", "keymap", "password_file"}
    dialog = make_dialog(options, {*asked, "passphrase_file"})
    while dialog.question and dialog.question.name != case.answer[0]:
        given = {"output": str(machine.folder / "x.img"), "profile": "minimal"}
        dialog = dialog.take(given.get(dialog.question.name, ""))
    before = dialog.question
    assert before is not None
    dialog = dialog.take(case.answer[1].replace("HERE", str(machine.folder)))
    assert dialog.question == before
    assert case.told in " ".join(dialog.told)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.answer[0]])
def test_what_is_not_asked_is_said_before_the_first_question(
    name: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = provoke(name, machine, monkeypatch)
    with pytest.raises(RamosError) as caught:
        make_dialog(options, ())
    assert CASES[name].told in str(caught.value)


def list_provoked(options: dict[str, Any]) -> Iterable[Check[Any]]:
    """The checks that say something."""
    try:
        made = request.read_request(options)
    except RamosError:
        return
    for table, subject in ((request.REQUEST_CHECKS, made), (checks.CHECKS, made.plan)):
        for check in table:
            try:
                check.look(subject)  # type: ignore[arg-type]
            except RamosError:
                yield check


def test_each_check_is_provoked(tmp_path: Path) -> None:
    seen: list[Check[Any]] = []
    for number, name in enumerate(CASES):
        with pytest.MonkeyPatch.context() as patch:
            machine = make_machine(tmp_path / str(number), patch)
            seen += list_provoked(provoke(name, machine, patch))
    assert [check for check in (*request.REQUEST_CHECKS, *checks.CHECKS) if check not in seen] == []


def test_the_last_question_says_nothing_of_its_own() -> None:
    assert all(GO_ON not in check.about for check in checks.CHECKS)
    assert request.find_last(("base", "keymap"), ("base", "user", "keymap", GO_ON)) == "keymap"
    assert request.find_last(("base", "keymap"), ("base", GO_ON)) == "base"
    assert request.find_last((), ("base",)) is None
