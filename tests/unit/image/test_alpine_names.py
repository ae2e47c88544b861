"""Every package of Alpine's profiles was looked up: docs/alpine-packages.txt says where."""

import re

from ramos.image.plan import HERE, read_package_list
from tests.conftest import REPOSITORY

LINE = re.compile(r"(\S+) +(main|community)/\S+ +(installed|subpackage|aport)")


def list_sections() -> list[str]:
    text = (HERE / "alpine.packages").read_text(encoding="ascii")
    return re.findall(r"^\[([a-z-]+)\]$", text, re.MULTILINE)


def test_each_name_stands_in_the_list_once() -> None:
    lines = (REPOSITORY / "docs/alpine-packages.txt").read_text().splitlines()
    rows = [LINE.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(rows), lines
    found = [row[1] for row in rows if row]
    assert {"minimal", "lts", "rescue", "firmware-common"} <= set(list_sections())
    assert found == sorted(read_package_list("alpine", tuple(list_sections())))
