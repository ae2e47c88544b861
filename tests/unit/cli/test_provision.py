"""Choosing the disk that everything is lost on."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import pytest

from ramos.cli import provision
from ramos.errors import RefusedError, UsageError
from ramos.image import write
from ramos.stick import disks
from ramos.stick.disks import Disk


@pytest.mark.parametrize("reasons", [(), ("it is a fixed disk", "it is write-protected")])
def test_a_disk_with_a_reason_against_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, reasons: tuple[str, ...]
) -> None:
    disk = object.__new__(Disk)
    monkeypatch.setattr(Disk, "title", "a disk", raising=False)
    monkeypatch.setattr(provision, "list_disks", lambda: ([disk], ""))
    monkeypatch.setattr(provision, "read_running_uuid", lambda: "")
    monkeypatch.setattr(disks, "find_disk", lambda *_: disk)
    monkeypatch.setattr(disks, "list_refusals", lambda *_, **__: reasons)
    if not reasons:
        assert provision.choose_disk("/dev/no-such", allow_fixed=False) is disk
        return
    with pytest.raises(RefusedError, match="; ".join(reasons)):
        provision.choose_disk("/dev/no-such", allow_fixed=False)


STICK = Disk(
    "sdz", "/dev/sdz", "8:400", 4 << 30, True, False, "usb", "Stick", "Fast", "S1", (), (), ()
)


def test_who_is_asked_sees_the_disk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("sdz\n"))
    provision.confirm_disk(STICK, (), batch=False)
    asked = capsys.readouterr().err
    assert "Everything on this disk will be lost:\n" in asked
    assert disks.describe(STICK) in asked


def test_a_disk_that_was_swapped_during_the_question_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextlib.contextmanager
    def hold(_disk: Disk) -> Iterator[Any]:
        yield "target"

    def refuse(target: Any) -> None:
        raise RefusedError("cannot write to", target, "it is another disk now")

    monkeypatch.setattr(write, "hold_target", hold)
    monkeypatch.setattr(write, "check_identity", refuse)
    with pytest.raises(RefusedError, match="another disk now"):
        provision.hold_disk(STICK, ("sdz",), batch=True).__enter__()


def test_enter_alone_confirms_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(UsageError, match="'' was typed, not 'sdz'"):
        provision.confirm_disk(STICK, (), batch=False)
    assert "Type sdz to overwrite it: " in capsys.readouterr().err
