"""Choosing the disk that everything is lost on."""

import pytest

from ramos.cli import provision
from ramos.errors import RefusedError
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
