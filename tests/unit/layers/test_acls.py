"""The text of ACL sidecars: both forms are read, and nothing that is not exactly one of them."""

import base64
import os

import pytest

from ramos.errors import DamagedError
from ramos.layers.acls import Acl, Holder, parse_acls, render_acl

VALUE = bytes.fromhex("0200000001000600ffffffff04000400ffffffff20000400ffffffff")
TEXT = base64.b64encode(VALUE).decode()
HOLDER = Holder("f", 1000, 100)


@pytest.mark.parametrize("path", [b"", b"a", b"a b/c%\n\xff", b"a/" * 3000 + b"b", b"..a/.b"])
@pytest.mark.parametrize("holder", [HOLDER, Holder("d", 0, (1 << 32) - 1), None])
def test_what_is_written_is_read(path: bytes, holder: Holder | None) -> None:
    acl = Acl("default", VALUE, path, holder)
    assert list(parse_acls((render_acl(acl) * 2).encode(), "x")) == [acl, acl]


def test_both_forms() -> None:
    data = f"access {TEXT} a\ndefault d 0:7 {TEXT} b%20c\n".encode()
    assert list(parse_acls(data, "x")) == [
        Acl("access", VALUE, b"a", None),
        Acl("default", VALUE, b"b c", Holder("d", 0, 7)),
    ]
    assert list(parse_acls(b"", "x")) == []


@pytest.mark.parametrize(
    "line",
    [
        f"access {TEXT} a",  # no end
        f"access {TEXT} a\n\n",
        f"other {TEXT} a\n",
        f"access {TEXT}  a\n",
        f"access {TEXT} a b\n",
        f"access {TEXT} /etc/shadow\n",
        f"access {TEXT} a/../../etc/shadow\n",
        f"access {TEXT} a/%2e%2e/b\n",
        f"access {TEXT} a/./b\n",
        f"access {TEXT} a//b\n",
        f"access {TEXT} a/\n",
        f"access {TEXT} a%00b\n",
        f"access {TEXT} %61\n",
        f"access {TEXT} a%e9\n",
        f"access {TEXT} a\x0b\n",
        f"access {TEXT} \u00e9\n",
        f"access {TEXT} a\r\n",
        f"access f 0:0 {TEXT} a/..\n",
        f"access x 0:0 {TEXT} a\n",
        f"access f 00:0 {TEXT} a\n",
        f"access f -1:0 {TEXT} a\n",
        f"access f 0:4294967296 {TEXT} a\n",
        f"access f 0 {TEXT} a\n",
        f"access f {TEXT} a\n",
        f"access {TEXT[:-1]} a\n",
        f"access {TEXT}= a\n",
        "access AQAAAA== a\n",  # another version
        "access AgAAAAE= a\n",  # half an entry
        f"ACCESS {TEXT} a\n",
    ],
)
def test_hostile_lines_are_refused(line: str) -> None:
    with pytest.raises(DamagedError):
        list(parse_acls(os.fsencode(line), "x"))
