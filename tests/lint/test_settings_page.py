"""ramos.toml(5) knows every key, its default and its limits."""

import re
from dataclasses import fields

import pytest

from ramos.config import Config
from tests.lint import rules

PAGE = (rules.REPOSITORY / "man/ramos.toml.5").read_text(encoding="utf-8")
KEYS = [
    (table.name, item)
    for table in fields(Config())
    for item in fields(getattr(Config(), table.name))
]


def plain(text: str) -> str:
    return re.sub(r"\\\\([- ])", r"\\1", text)


def read_entry(table: str, key: str) -> str:
    """The text of one key on the page."""
    section = PAGE.partition(f".SH [{table}]\n")[2].partition("\n.SH ")[0]
    entry = plain(section).partition(f".B {key}\n")[2].partition("\n.TP")[0]
    assert entry, f"ramos.toml(5) does not know {table}.{key}"
    return entry


@pytest.mark.parametrize(("table", "item"), KEYS, ids=[f"{t}.{i.name}" for t, i in KEYS])
def test_key_is_documented(table: str, item: object) -> None:
    name, metadata = item.name, item.metadata  # type: ignore[attr-defined]
    entry = read_entry(table, name)
    assert metadata["doc"] in entry
    if metadata["low"] is not None:
        assert f"From {metadata['low']} to {metadata['high']}." in entry
    value = getattr(getattr(Config(), table), name)
    shown = [*value] if isinstance(value, tuple) else [value]
    for part in shown:
        text = str(part).lower() if isinstance(part, bool) else str(part)
        assert text in entry.partition("Default:")[2]


def test_the_page_knows_no_other_keys() -> None:
    known = {item.name for _, item in KEYS}
    settings = PAGE.partition(".SH [")[2].partition(".SH EXAMPLE")[0]
    assert set(re.findall(r"^\.B (\w+)$", plain(settings), re.MULTILINE)) == known
